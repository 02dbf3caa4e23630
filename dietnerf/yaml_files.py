"""YAML from files that anybody may have written."""

from pathlib import Path
from typing import Any

import yaml

from dietnerf.errors import UserError
from dietnerf.files import open_regular

MOST_BYTES = 100_000  # a config has a few thousand; numbers of millions of digits take minutes
MOST_MERGED = 10_000  # merge keys (`<<`) can make a few lines into billions of options


class _Loader(yaml.SafeLoader):
    """PyYAML's, with a bound on what merge keys add."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_MERGED:
            raise yaml.YAMLError(f"more than {MOST_MERGED} keys of one mapping")


def read_yaml(path: Path) -> Any:
    """What a YAML file says, in plain values.

    Raises:
        UserError: it is no YAML, no file, or longer than any that dietnerf has a use for.
    """
    try:
        with open_regular(path, MOST_BYTES) as file:
            return yaml.load(file.read().decode(), _Loader)
    except UserError:
        raise
    except Exception as error:  # of PyYAML also KeyError, IndexError, AttributeError, ...
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a YAML file: {reason}") from error
