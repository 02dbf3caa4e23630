"""Config files: those that come with the package, and those of runs."""

from pathlib import Path
from typing import Any

from dietnerf.errors import UserError
from dietnerf.yaml_files import read_yaml

LATEST = "runs/latest"
_PACKAGE = Path(__file__).parents[1]
# Beside the code in an installed package, at the top of a checkout.
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def find_config(name: str) -> Path:
    """A config by the path of a file, or by the name of a packaged one.

    Raises:
        UserError: there is none.
    """
    given = Path(name)
    if given.is_file():
        return given
    short = given.relative_to("configs") if given.is_relative_to("configs") else given
    packaged = CONFIGS / short.with_suffix(".yaml")
    if not packaged.is_file():
        places = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
        known = ", ".join(sorted(str(place.with_suffix("")) for place in places))
        raise UserError(f"there is no config {name}; give a file, or one that comes along: {known}")
    return packaged


def config_of(run: Path) -> Path:
    """The config that a run began with.

    Raises:
        UserError: there is none.
    """
    config = run / "config.yaml"
    if not config.is_file():
        raise UserError(f"there is no run at {run}: {config} is missing; train one with `fit`")
    return config


def read_config(config: Path) -> dict[str, Any]:
    """The options in a config, unchecked.

    Raises:
        UserError: it is not YAML, or holds no options.
    """
    content = read_yaml(config)
    if not isinstance(content, dict):
        raise UserError(f"{config} holds no options; see configs/nerf.yaml for an example")
    return content
