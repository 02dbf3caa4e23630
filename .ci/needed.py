"""What the package needs by pyproject.toml, a line each: `needed.py [--only] [EXTRA ...]`.

With `--only`, what the extras add and not what the package itself needs.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
names = [name for name in sys.argv[1:] if name != "--only"]
needed = [] if "--only" in sys.argv else project["dependencies"]
print(*sum((project["optional-dependencies"][name] for name in names), needed), sep="\n")
