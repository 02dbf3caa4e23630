"""What the package needs by pyproject.toml, a line each: `needed.py [EXTRA ...]`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = [project["optional-dependencies"][name] for name in sys.argv[1:]]
print(*sum(extras, project["dependencies"]), sep="\n")
