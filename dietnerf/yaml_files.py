"""Reads YAML from untrusted files."""

from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from dietnerf.errors import UserError
from dietnerf.files import open_regular

MOST_BYTES = 100_000  # a config has a few thousand; numbers of millions of digits take minutes
MOST_MERGED = 10_000  # merge keys (`<<`) can make a few lines into billions of options
MOST_WRITTEN_OUT = 1_000_000  # letters and values, with aliases in full; those can make billions
DEEPEST = 50  # lists and mappings in each other


class _Loader(yaml.SafeLoader):
    """PyYAML's, with a bound on what merge keys add."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_MERGED:
            raise yaml.YAMLError(f"more than {MOST_MERGED} keys of one mapping")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, in plain values.

    Raises:
        UserError: it is no YAML, no file, or longer than any that dietnerf has a use for.
    """
    with open_regular(path, MOST_BYTES) as file:
        return parse_yaml(file.read(), path)


def parse_yaml(content: bytes | str, path: Path) -> Any:
    """The content of YAML text, in plain values.

    Args:
        content: in UTF-8.
        path: the file that it comes from.

    Raises:
        UserError: it is no YAML, or longer than any that dietnerf has a use for.
    """
    try:
        loader = _Loader(content.decode() if isinstance(content, bytes) else content)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except Exception as error:  # of PyYAML also KeyError, IndexError, AttributeError, ...
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a YAML file: {reason}") from error


def _measure(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """How much a node is when its aliases are written out, and how deep.

    Args:
        node: of a document.
        known: what was measured so far.

    Raises:
        YAMLError: more than any config, or it holds itself.
    """
    if node not in known:
        known[node] = (MOST_WRITTEN_OUT + 1, 0)  # until it is known: it may hold itself
        size, depth = 1, 0
        if isinstance(node, yaml.ScalarNode):
            size += len(node.value)
        else:
            pairs = isinstance(node, yaml.MappingNode)
            for part in chain(*node.value) if pairs else node.value:
                of_part, below = _measure(part, known)
                size, depth = size + of_part, max(depth, below + 1)
        known[node] = (size, depth)
    size, depth = known[node]
    if size > MOST_WRITTEN_OUT or depth > DEEPEST:
        raise yaml.YAMLError("it holds more, or deeper, than any config")
    return size, depth
