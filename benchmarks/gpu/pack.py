"""Packs what the prepared run on a GPU needs where there is no network: `make gpu-pack`.

    DIETNERF_DATA=... python benchmarks/gpu/pack.py [--out .gpu] [--archs 9.0]

Into .gpu/ of the checkout: wheels for Python 3.12 of what a machine with torch, Lightning and timm
lacks; nerfacc's source, which is built there; lego at 800x800 as lossless WebP, with some test
views as validation views where the scene has none; run.sh. And it builds the kernels in place, for
one kind of GPU alone. What travels is the checkout with .gpu/, dietnerf/_C*.so and
dietnerf/_build_info.json, at most 64 MiB. docs/gpu-todo.md says how it is run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import ROOT, lego
from PIL import Image

from dietnerf.errors import UserError, exit_on_user_error

# The command line's, then those of open_clip; versions are the lock's.
WHEELS = ("jsonargparse", "docstring-parser", "typeshed-client")
WHEELS += ("open-clip-torch", "ftfy", "wcwidth")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
NERFACC = "nerfacc==0.5.3"
MOST = 64 * 2**20  # bytes that may travel
N_TEST, N_VAL = 25, 5  # views: the paper's, and enough for a curve
START = """#!/usr/bin/env bash
exec bash "$(dirname "$0")/../benchmarks/gpu/run.sh" "$@"
"""


def pins() -> list[str]:
    """The packed wheels as requirements, at the versions of requirements.lock."""
    lock = (ROOT / "requirements.lock").read_text()
    found = dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE))
    return [f"{name}=={found[name]}" for name in WHEELS]


def download(out: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    target = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    call([*pip, *target, *platforms, "-d", str(out / "wheels"), *pins()])
    # There is no wheel of it with kernels, and pip needs torch to read its metadata.
    source = ["--no-build-isolation", "--no-binary=nerfacc", "-d", str(out), NERFACC]
    call([*pip, *source], BUILD_NO_CUDA="1")


def build(archs: str) -> None:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    call(command, TORCH_CUDA_ARCH_LIST=archs)
    built = json.loads((ROOT / "dietnerf/_build_info.json").read_text())["cuda"]
    if not built["built"]:
        raise UserError(f"the CUDA kernels were not built: {built['reason']}")


def call(command: list[str], **env: str) -> None:
    try:
        subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=True)
    except subprocess.CalledProcessError as error:
        raise UserError(f"{' '.join(command)} failed; see above") from error


def pack_scene(source: Path, target: Path) -> None:
    """The images of all lists that are kept as lossless WebP, three quarters of the PNGs' size."""
    lists = {split: read_list(source, split) for split in ("train", "test")}
    lists["test"]["frames"] = spread(lists["test"]["frames"], N_TEST)
    known = source / "transforms_val.json"
    lists["val"] = read_list(source, "val") if known.is_file() else dict(lists["test"])
    lists["val"]["frames"] = spread(lists["val"]["frames"], N_VAL)
    names = {frame["file_path"] for kept in lists.values() for frame in kept["frames"]}
    target.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(converter(source, target), sorted(names)))
    for split, kept in lists.items():
        (target / f"transforms_{split}.json").write_text(json.dumps(kept))


def read_list(source: Path, split: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((source / f"transforms_{split}.json").read_text())
    return found


def spread(frames: list[Any], n: int) -> list[Any]:
    """Every k-th, about n of them: of 200, every 8th."""
    return frames[:: max(1, len(frames) // n)]


def converter(source: Path, target: Path) -> Callable[[str], None]:
    def convert(name: str) -> None:
        to = (target / name).with_suffix(".webp")
        if not to.exists():
            to.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open((source / name).with_suffix(".png"))
            image.save(to, "WEBP", lossless=True, exact=True, quality=50, method=2)

    return convert


def n_bytes(out: Path) -> int:
    """Of all that travels."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    files += [*out.rglob("*"), *(ROOT / "dietnerf").glob("_C*.so")]
    return sum(file.stat().st_size for file in files if file.is_file())


@exit_on_user_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu")
    parser.add_argument("--archs", default="9.0", help="as TORCH_CUDA_ARCH_LIST; Hopper")
    args = parser.parse_args()
    scene = lego()
    if scene is None:
        raise UserError("nerf_synthetic/lego is not in data/; set DIETNERF_DATA to where it is")
    args.out.mkdir(parents=True, exist_ok=True)
    download(args.out)
    build(args.archs)
    pack_scene(scene, args.out / "data/nerf_synthetic/lego")
    (args.out / "run.sh").write_text(START)
    size = n_bytes(args.out)
    print(f"{args.out} is packed; {size / 2**20:.1f} of {MOST / 2**20:.0f} MiB travel")
    if size > MOST:
        raise UserError(f"that is more than may travel: {size} bytes")


if __name__ == "__main__":
    main()
