"""The prepared run on a GPU: what it names is there, what it packs is locked, and what comes back
becomes rows of the docs."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks/gpu"
CARD = {"date": "2026-01-31", "device": "A card", "capability": "9.0"}
STEP = {"part": "step", "name": "training step", "card": "A card", "ms": 1.25, "bare_ms": 1.125}
QUALITY = {
    "part": "quality", "name": "time to quality", "card": "A card", "seconds_to_30_db": 2.5,
    "seconds_to_35_db": None, "psnr": 34.25, "seconds": 40.0, "curve": [],
}  # fmt: skip
RESULTS = """<testsuites><testsuite>
<testcase classname="tests.ops.test_a" name="test_b[cuda]"><failure message="no"/></testcase>
<testcase classname="tests.ops.test_a" name="test_c[cuda]"/>
<testcase classname="tests.ops.test_a" name="test_d[cuda]"><skipped/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("pack", FOLDER / "pack.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "report.py"), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_the_run_names_is_there():
    text = (FOLDER / "run.sh").read_text()
    subprocess.run(["bash", "-n", str(FOLDER / "run.sh")], check=True)
    named = set(re.findall(r"\b(?:tests|benchmarks)/[\w/.]+\w", text))
    assert len(named) >= 8 and all((ROOT / name).exists() for name in named), named
    parts = [word for line in re.findall(r"--parts ([a-z ]+) --", text) for word in line.split()]
    known = (ROOT / "benchmarks/gpu.py").read_text()
    assert len(parts) == 7 and all(f'"{part}"' in known for part in parts)


def test_wheels_are_packed_at_the_locked_versions(pack: ModuleType):
    pins = pack.pins()
    assert len(pins) == len(pack.WHEELS)
    lock = (ROOT / "requirements.lock").read_text()
    assert all(f"\n{pin} " in lock for pin in pins)


def test_a_scene_without_validation_views_gets_some(pack: ModuleType, tmp_path: Path):
    from PIL import Image

    source, target = tmp_path / "lego", tmp_path / "packed"
    for split, n in (("train", 3), ("test", 50)):
        (source / split).mkdir(parents=True)
        frames = [{"file_path": f"./{split}/r_{i}"} for i in range(n)]
        for i in range(n):
            Image.new("RGBA", (4, 4), (i, 2 * i, 3, 40)).save(source / split / f"r_{i}.png")
        (source / f"transforms_{split}.json").write_text(json.dumps({"frames": frames}))
    pack.pack_scene(source, target)
    kept = {
        split: [f["file_path"] for f in pack.read_list(target, split)["frames"]]
        for split in ("train", "val", "test")
    }
    assert len(kept["train"]) == 3 and len(kept["test"]) == 25 and len(kept["val"]) == 5
    assert set(kept["val"]) < set(kept["test"])
    assert len(list(target.rglob("*.webp"))) == 28
    assert Image.open(target / "test/r_8.webp").getpixel((1, 1)) == (8, 16, 3, 40)


def test_what_came_back_becomes_rows(tmp_path: Path):
    (tmp_path / "steps.json").write_text(json.dumps({"card": CARD, "rows": [STEP]}))
    (tmp_path / "quality.json").write_text(json.dumps({"card": CARD, "rows": [QUALITY]}))
    (tmp_path / "ops.xml").write_text(RESULTS)
    page = tmp_path / "page.md"
    page.write_text("# Kernels\n\n| a | b |\n\n## Measured on a GPU\n\nold figures\n")
    done = report(str(tmp_path), "--out", str(page))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "ops.xml: 1 passed, 1 failure, 1 skipped\n- tests.ops.test_a::test_b["
    )
    assert "1.25 ms (1.125 ms) (A card, 2026-01-31) | `benchmarks/gpu/run.sh` |" in done.stdout
    assert "2.5 / not reached; 34.25 dB after 40 s" in done.stdout
    text = page.read_text()
    assert text.startswith("# Kernels\n\n| a | b |\n\n## Measured on a GPU\n")
    assert "old figures" not in text and "date 2026-01-31" in text
    assert "| training step | 1.25 | 1.125 |" in text


def test_figures_of_a_rehearsal_get_into_no_page(tmp_path: Path):
    card = {name: value for name, value in CARD.items() if name != "capability"}
    (tmp_path / "steps.json").write_text(json.dumps({"card": card, "rows": [STEP]}))
    page = tmp_path / "page.md"
    done = report(str(tmp_path), "--out", str(page))
    assert done.returncode == 2 and "figures of a rehearsal" in done.stderr
    assert not page.exists()


def test_figures_stay_when_the_page_is_made_anew(monkeypatch, tmp_path: Path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from kernel_resources import measured_in, with_measured

    page = tmp_path / "kernels.md"
    assert measured_in(page) == "" and with_measured("# New\n", "") == "# New\n"
    page.write_text(with_measured("# Old\n", "## Measured on a GPU\n\n1 ms\n"))
    made = with_measured("# New\n", measured_in(page))
    assert made == "# New\n\n## Measured on a GPU\n\n1 ms\n"


def test_a_folder_without_figures_is_said(tmp_path: Path):
    done = report(str(tmp_path))
    assert done.returncode == 2 and done.stderr == f"error: no figures (*.json) in {tmp_path}\n"
