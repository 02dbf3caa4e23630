"""What tests of runs share: a module that no file may name."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def untrusted(tmp_path: Path, monkeypatch) -> Path:
    """A module that leaves a mark where it is imported, with a field in it."""
    module, mark = tmp_path / "modules" / "untrusted.py", tmp_path / "mark"
    module.parent.mkdir()
    module.write_text(
        f"from pathlib import Path\nfrom dietnerf.fields import HashGrid\n"
        f"Path({str(mark)!r}).touch()\nclass Field(HashGrid):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(module.parent))
    yield mark
    sys.modules.pop("untrusted", None)
