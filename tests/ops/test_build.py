"""The build: what it leaves behind, what it says, and that the package works without it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dietnerf.ops._load import PACKAGE, describe_build, has_kernels

BUILD_INFO = PACKAGE / "_build_info.json"
EXAMPLE = """
import warnings
import torch
from dietnerf.ops import composite
from dietnerf.ops._load import has_kernels
sigmas = torch.ones(3, requires_grad=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        ones, ray_offsets = torch.ones(3), torch.tensor([0, 3])
        opacity = composite(sigmas, torch.ones(3, 3), ones, ones, ray_offsets)[2]
opacity.sum().backward()
print(has_kernels("CPU"), len(caught), round(opacity.item(), 5), round(sigmas.grad[0].item(), 5))
"""


def run(*args: str, **kwargs: object) -> str:
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_line_says_what_was_built() -> None:
    line = run("-m", "dietnerf.ops").strip()
    assert line == describe_build()
    assert "CPU kernels: " in line
    assert "CUDA kernels: " in line


def test_works_uncompiled_and_says_so_once(tmp_path: Path) -> None:
    shutil.copytree(
        PACKAGE, tmp_path / "dietnerf", ignore=shutil.ignore_patterns("_C*", "_build_info.json")
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # Opacity 1 - exp(-3); its derivative in each density exp(-3).
    assert run("-c", EXAMPLE, cwd=tmp_path, env=env).split() == ["False", "1", "0.95021", "0.04979"]
    assert "never built" in run("-m", "dietnerf.ops", cwd=tmp_path, env=env)


def test_a_library_that_does_not_load_is_named(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "dietnerf", ignore=shutil.ignore_patterns("_C*"))
    (tmp_path / "dietnerf" / "_C.abi3.so").write_text("no library")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    out = run("-W", "ignore", "-c", EXAMPLE, cwd=tmp_path, env=env)
    assert out.split()[0] == "False"


@pytest.mark.skipif(not BUILD_INFO.exists(), reason="the kernels were not built here")
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
@pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no CUDA")
@pytest.mark.skipif(os.environ.get("DIETNERF_CUDA") == "0", reason="CUDA is switched off")
def test_cuda_sources_compile_where_they_can() -> None:
    info = json.loads(BUILD_INFO.read_text())["cuda"]
    assert info["built"], info["reason"]
    assert has_kernels("CUDA")
    if "TORCH_CUDA_ARCH_LIST" not in os.environ and not torch.cuda.is_available():
        assert {"sm_80", "sm_86", "sm_89", "sm_90", "sm_120"} <= set(info["archs"])


# Of two names or more; what is relative to the sources may be named.
ABSOLUTE_PATH = re.compile(rb"(?<![\w.)-])/[a-z][\w.+-]{2,}/[\w.+-]{3,}")


@pytest.mark.parametrize("library", ["_C.abi3.so", "_C_cuda.abi3.so"])
def test_a_library_names_no_folder_of_its_builder(library: str, tmp_path: Path) -> None:
    path = PACKAGE / library
    if not path.exists():
        pytest.skip("it was not built here")
    assert not ABSOLUTE_PATH.findall(path.read_bytes())
    triton = Path(torch.__file__).parents[1] / "triton/backends/nvidia/bin"
    cuobjdump = shutil.which("cuobjdump", path=f"{os.environ['PATH']}{os.pathsep}{triton}")
    if "cuda" not in library or cuobjdump is None:
        return
    for option in ("-xelf", "-xptx"):  # most of it is compressed in the library
        subprocess.run([cuobjdump, option, "all", path], cwd=tmp_path, check=True)
    programs = list(tmp_path.iterdir())
    assert programs
    for program in programs:
        assert not ABSOLUTE_PATH.findall(program.read_bytes()), program.name
