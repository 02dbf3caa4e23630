"""The notebook runs from the first cell to the last."""

import re
from pathlib import Path

import imageio.v3 as iio
import pytest

ROOT = Path(__file__).parents[1]
FULL = 'run, steps, pixels = "runs/notebook", 1500, 200'


def test_every_cell_runs(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "notebooks" / "demo.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (settings,) = [cell for cell in cells if cell.source == FULL]
    settings.source = f'run, steps, pixels = "{tmp_path}/run", 100, 40'
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(ROOT))

    said = "".join(out.get("text", "") for cell in cells for out in cell.outputs)
    assert "Blender" not in said and "16 test views at 40x40" in said, said
    pictures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 3
    film = iio.imread(tmp_path / "run" / "orbit.gif")
    assert film.shape == (24, 120, 240, 3) and film.std() > 10


def test_what_is_shown_of_it_is_of_one_execution_and_of_no_machine():
    nbformat = pytest.importorskip("nbformat")
    file = ROOT / "notebooks" / "demo.ipynb"
    cells = [c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    said = "".join(output.get("text", "") for output in outputs)
    assert "test views" in said and not re.search(r"(^|\s)/\w|warning|error|\r(?!\n)", said)
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert file.stat().st_size < 1_000_000
