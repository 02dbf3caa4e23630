"""Files of torch.save that ask for more than they hold, or call what tensors have no need of."""

import io
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.tensor_files import load_tensors


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def archive(path: Path, pickled: bytes) -> Path:
    """A file of torch.save with another pickle in it."""
    torch.save({"a": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in parts.items():
            changed.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("is_legacy", [False, True])
def test_tensors_are_read(is_legacy: bool, tmp_path: Path):
    content = {
        "a": torch.arange(3.0),
        "b": [1, 2.5, None, "c"],
        "d": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not is_legacy)
    found = load_tensors(tmp_path / "a.pt")
    assert found["b"] == content["b"] and found["a"].tolist() == [0, 1, 2]
    assert found["d"].tolist() == [1, 1]


CALLS = {
    "gigabytes": Call(bytearray, 6_000_000_000),
    "a slow codec": Call(__import__("_codecs").encode, "\xfc" * 900_000, "punycode"),
    "a command": Call(os.system, "true"),
    "a tensor of any size": Call(torch.FloatTensor, 1_000_000_000),
    "keys that collide": {i * (2**61 - 1): None for i in range(1, 2000)},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", CALLS)
def test_a_pickle_that_calls_is_refused(name: str, protocol: int, tmp_path: Path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"it calls|more values"):
        load_tensors(archive(tmp_path / "a.pt", pickle.dumps(CALLS[name], protocol)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_a_pickle_of_old_that_calls_is_refused(tmp_path: Path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pt").read_bytes()
    first = io.BytesIO(content)
    for _ in range(3):
        pickle.load(first)
    call = pickle.dumps(CALLS["gigabytes"], 2)
    (tmp_path / "a.pt").write_bytes(content[: first.tell()] + call + content[first.tell() :])
    with pytest.raises(ValueError, match="it calls"):
        load_tensors(tmp_path / "a.pt")


def test_parts_that_overlap_are_refused(tmp_path: Path):
    path = tmp_path / "a.pt"
    torch.save({f"a{i}": torch.full((100_000,), float(i)) for i in range(20)}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as whole:
        offsets = {info.header_offset for info in whole.infolist() if "/data/" in info.filename}
        end = whole.start_dir
    listed = bytearray(content[end:])
    for offset in sorted(offsets):  # all in the place of one
        listed = listed.replace(struct.pack("<I", offset), struct.pack("<I", min(offsets)))
    smaller = content[: sorted(offsets)[1]]
    moved = listed.replace(struct.pack("<Q", end), struct.pack("<Q", len(smaller)))
    moved = moved.replace(struct.pack("<I", end), struct.pack("<I", len(smaller)))
    at = end + len(listed) - content.rfind(b"PK\6\7")  # where the end of the list is said to be
    position = content.rfind(b"PK\6\6")
    moved = moved.replace(
        struct.pack("<Q", position), struct.pack("<Q", position - end + len(smaller))
    )
    assert at > 0
    path.write_bytes(smaller + moved)
    with pytest.raises(ValueError, match="overlap"):
        load_tensors(path)


def test_packed_parts_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(ValueError, match="packed"):
        load_tensors(tmp_path / "a.pt")


def test_two_lists_of_parts_are_refused(tmp_path: Path):
    """Of which Python reads the one, and torch the other."""
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(b"in front" + content)
    with pytest.raises(ValueError, match="two lists"):
        load_tensors(tmp_path / "a.pt")


def test_what_is_no_file_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe"):
        load_tensors(tmp_path / "pipe")
    torch.save(torch.ones(1000), tmp_path / "a.pt")
    with pytest.raises(UserError, match="are the most that"):
        load_tensors(tmp_path / "a.pt", most=1000)
