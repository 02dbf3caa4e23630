"""`dietnerf doctor`: what is installed and built, what is missing, and how to get it."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

import dietnerf
from dietnerf.arguments import Parser
from dietnerf.errors import exit_on_user_error
from dietnerf.optional import how_to_install

NEEDED = ("torch", "torchvision", "pytorch_lightning", "open_clip_torch", "kornia", "imageio")
OPTIONAL = {  # module: what it is for, and the extra that has it
    "pycolmap": ("dietnerf prepare and make", "prepare"),
    "pillow_heif": ("HEIC photos, as of iPhones", "heic"),
    "viser": ("dietnerf view, and --viewer", "viewer"),
    "streamlit": ("dietnerf app", "app"),
    "trimesh": ("dietnerf export mesh and points", "export"),
    "torch_xla": ("TPUs, in an environment of its own", "tpu"),
}


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Print it; `args` defaults to the command line."""
    Parser(prog="dietnerf doctor", description=__doc__).parse_args(args)
    for title, lines in (
        ("machine", _machine()),
        ("packages", _packages()),
        ("kernels", _kernels()),
        ("files", _files()),
    ):
        print(title)
        for line in lines:
            print(f"  {line}")


def _machine() -> Iterator[str]:
    memory = psutil.virtual_memory()
    yield f"dietnerf {dietnerf.__version__} in {Path(dietnerf.__file__).parent}"
    yield f"{platform.platform()}, Python {platform.python_version()}"
    free, there = memory.available / 1e9, memory.total / 1e9
    yield f"{os.cpu_count()} cores, {free:.1f} of {there:.1f} GB of memory free"
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield f"GPUs: {', '.join(names)}" if names else "no GPU that torch can use: all runs on the CPU"


def _packages() -> Iterator[str]:
    for name in NEEDED:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} is MISSING: {how_to_install()}"
    for module, (use, extra) in OPTIONAL.items():
        if find_spec(module) is None:
            yield f"{module} is not there, for {use}: {how_to_install(extra)}"
        else:
            yield f"{module} is there ({use})"


def _kernels() -> Iterator[str]:
    from dietnerf.ops._load import describe_build

    yield describe_build()
    if "CPU kernels: yes" not in describe_build():
        yield "with a C++ compiler, `pip install --no-build-isolation .` builds them"


def _files() -> Iterator[str]:
    import torch

    data = os.environ.get("DIETNERF_DATA")
    yield f"DIETNERF_DATA is {data or 'not set: scenes are looked for here and in data/'}"
    weights = Path(torch.hub.get_dir(), "checkpoints/vgg16-397923af.pth")
    there = "is there" if weights.is_file() else "is not there: `test` tries to download it"
    yield f"{weights} (LPIPS) {there}"
    from huggingface_hub.constants import HF_HUB_CACHE

    hub = Path(HF_HUB_CACHE)
    towers = sorted(path.name for path in hub.glob("models--*[cC][lL][iI][pP]*"))
    yield f"CLIP weights in {hub}: {', '.join(towers) or 'none; a semantic loss downloads them'}"
