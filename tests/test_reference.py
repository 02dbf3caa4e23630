"""The reference of configs and options is what the configs and the constructors say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("configs.md", "options.md")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, str(ROOT / ".ci/reference.py"), folder], check=True)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_is_up_to_date(page: str, written: Path):
    kept = (ROOT / "docs/reference" / page).read_text()
    assert (written / page).read_text() == kept, "run `make reference`"


def test_every_option_is_explained(written: Path):
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", (written / "options.md").read_text(), re.M)
    assert len(rows) > 200
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_a_config_is_shown_with_what_it_is_for_and_how_it_runs(written: Path):
    (section,) = re.findall(
        r"^## ema\n(.*?)^## ", (written / "configs.md").read_text(), re.M | re.S
    )
    assert "moving average of the weights" in section
    assert "dietnerf fit --config configs/fast.yaml --config configs/ema.yaml" in section


def test_options_name_the_configs_that_set_them(written: Path):
    lines = (written / "options.md").read_text().splitlines()
    (row,) = (line for line in lines if line.startswith("| `is_unbounded`"))
    assert "| `false` | forward-3view, forward-few, photos |" in row
