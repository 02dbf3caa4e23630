"""Builds the kernels: `csrc/cpu/*.cpp` into dietnerf/_C, `csrc/cuda/*.cu` into dietnerf/_C_cuda.

Neither is needed: what cannot be built is said in one line, kept in dietnerf/_build_info.json, and
the PyTorch references run instead. The libraries use torch's stable ABI and no Python symbol, hence
the plain compiler calls.

DIETNERF_CUDA=0 leaves CUDA out. TORCH_CUDA_ARCH_LIST, CXX, CUDA_HOME mean what they mean elsewhere.

A wheel follows from the sources, torch and the compilers alone: the same bytes from any folder, at
any time. SOURCE_DATE_EPOCH may give its files another date than 1980. With CUDA it must be a folder
of the same path, whose hash nvcc puts into the names of symbols.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
DEFAULT_ARCHS = "8.0;8.6;8.9;9.0;12.0+PTX"
# Stable ABI of torch 2.10, the first with parallel_for.
DEFINES = ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
# Without them nvcc puts its process id into the names of symbols.
SAME_NAMES = ["-frandom-seed=dietnerf", "-objtemp"]
HOST_FLAGS = ["-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]


os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")  # the first date that a zip file can hold


class NotBuilt(Exception):
    """Why a library is missing, in one line."""


class BuildKernels(build_ext):
    """Compiles and links both libraries, and writes down what became of them."""

    def run(self) -> None:
        in_place = self.inplace or getattr(self, "editable_mode", False)
        package = ROOT / "dietnerf" if in_place else ROOT / self.build_lib / "dietnerf"
        temp = ROOT / self.build_temp
        for folder in (package, temp):
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            cpu = pool.submit(attempt, build_cpu, package / "_C.abi3.so", temp)
            cuda = pool.submit(attempt, build_cuda, package / "_C_cuda.abi3.so", temp)
        info = {"cpu": cpu.result(), "cuda": cuda.result()}
        (package / "_build_info.json").write_text(json.dumps(info, indent=2) + "\n")
        self.built = [*package.glob("_C*.abi3.so"), package / "_build_info.json"]

    def get_outputs(self) -> list[str]:
        return [str(path) for path in getattr(self, "built", [])]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class BuildPython(build_py):
    """Takes configs/ along as dietnerf/configs; an editable install uses configs/ itself."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):
            target = Path(self.build_lib) / "dietnerf" / "configs"
            shutil.copytree(ROOT / "configs", target, dirs_exist_ok=True)


class BuildWheel(bdist_wheel):
    """Gives files the modes that they have whatever the builder's umask."""

    def write_wheelfile(self, wheelfile_base: str, *args: str) -> None:
        super().write_wheelfile(wheelfile_base, *args)
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)


def attempt(build, path: Path, temp: Path) -> dict[str, object]:
    path.unlink(missing_ok=True)
    try:
        return {"built": True, **build(path, temp)}
    except NotBuilt as why:
        print(f"dietnerf: {path.name} was not built: {why}", file=sys.stderr)
        return {"built": False, "reason": str(why)}


def build_cpu(path: Path, temp: Path) -> dict[str, object]:
    torch = import_torch()
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise NotBuilt("no C++ compiler was found")
    host_flags = [*HOST_FLAGS, *unnamed_folders(torch)]
    flags = [*DEFINES, *host_flags, "-std=c++17", "-fopenmp-simd", *include_flags(torch)]
    gcc = compiler.split()
    compiled = compile_all("csrc/cpu/*.cpp", temp, [*gcc, *flags])
    linked = library_flags(torch, "torch", "torch_cpu", "c10")
    call([*gcc, "-shared", compiled, "-o", str(path), *linked])
    version = call([*gcc, "--version"]).splitlines()[0]
    return {"how": f"{version}, torch {torch.__version__}"}


def build_cuda(path: Path, temp: Path) -> dict[str, object]:
    if os.environ.get("DIETNERF_CUDA") == "0":
        raise NotBuilt("switched off by DIETNERF_CUDA=0")
    torch = import_torch()
    if torch.version.cuda is None:
        raise NotBuilt(f"torch {torch.__version__} has no CUDA")
    home, version = find_cuda(relative("csrc/cuda/*.cu")[0])
    if version.split(".")[0] != torch.version.cuda.split(".")[0]:
        raise NotBuilt(f"nvcc is of CUDA {version}, torch of CUDA {torch.version.cuda}")
    archs, targets = cuda_targets(torch)
    nvcc = [str(home / "bin" / "nvcc"), "-std=c++17", "-cudart", "shared", "--threads=0", *targets]
    host_flags = [*HOST_FLAGS[1:], *unnamed_folders(torch)]
    host = [flag for host_flag in host_flags for flag in ("-Xcompiler", host_flag)]
    flags = [*DEFINES, "-DUSE_CUDA", "-O3", *SAME_NAMES, *host, *include_flags(torch)]
    compiled = compile_all("csrc/cuda/*.cu", temp, [*nvcc, *flags])
    linked = library_flags(torch, "torch", "torch_cpu", "torch_cuda", "c10")
    # No kernel calls into another object, and the device's linker would write its folders down.
    call([*nvcc, "-shared", "-nodlink", compiled, "-o", str(path), *linked])
    how = f"nvcc {version} for {', '.join(archs)}, torch {torch.__version__}"
    return {"how": how, "archs": archs}


def import_torch():
    try:
        import torch.utils.cpp_extension
    except ImportError as error:
        raise NotBuilt(f"torch cannot be imported while building ({error})") from error
    return torch


def include_flags(torch) -> list[str]:
    # The dot is the repository: calls run there, so that messages of the library name csrc/ only.
    return ["-I.", *(f"-I{folder}" for folder in torch.utils.cpp_extension.include_paths())]


def unnamed_folders(torch) -> list[str]:
    """Messages of torch's headers name the header, but not where torch lies on this machine."""
    folders = torch.utils.cpp_extension.include_paths()
    return [f"-ffile-prefix-map={folder}/=" for folder in folders]


def library_flags(torch, *names: str) -> list[str]:
    folders = torch.utils.cpp_extension.library_paths()
    return [*(f"-L{folder}" for folder in folders), *(f"-l{name}" for name in names)]


def find_cuda(source: str) -> tuple[Path, str]:
    """The toolkit and its version; behind an `nvcc` that is a wrapper, the one that it calls."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = f"{home}/bin/nvcc" if home else shutil.which("nvcc")
    nvcc = nvcc or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        raise NotBuilt("nvcc was not found")
    top = re.search(r"TOP=(.+)", call([nvcc, "--dryrun", "-c", source]))
    release = re.search(r"release ([\d.]+)", call([nvcc, "--version"]))
    if top is None or release is None:
        raise NotBuilt(f"{nvcc} does not say where its toolkit lies")
    return Path(top[1].strip()).resolve(), release[1]


def cuda_targets(torch) -> tuple[list[str], list[str]]:
    """Names such as "sm_80" and "compute_90" (PTX), and nvcc's flags for them."""
    wanted = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if not wanted and torch.cuda.is_available():
        ids = range(torch.cuda.device_count())
        wanted = ";".join("{}.{}".format(*torch.cuda.get_device_capability(i)) for i in ids)
    names, flags = [], []
    for arch in re.split(r"[;, ]+", wanted or DEFAULT_ARCHS):
        found = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", arch)
        if found is None:
            raise NotBuilt(f"TORCH_CUDA_ARCH_LIST has {arch!r}, expected e.g. {DEFAULT_ARCHS}")
        number = found[1] + found[2]
        for code in [f"sm_{number}", *([f"compute_{number}"] if found[3] else [])]:
            if code not in names:
                names.append(code)
                flags.append(f"-gencode=arch=compute_{number},code={code}")
    return names, flags


def compile_all(pattern: str, temp: Path, command: list[str]) -> str:
    """One object from all sources: torch's headers, parsed once, are most of the work."""
    sources = relative(pattern)
    together = temp / f"all{Path(sources[0]).suffix}"
    together.write_text("".join(f'#include "{source}"\n' for source in sources))
    target = temp / f"{together.name}.o"
    call([*command, "-c", str(together), "-o", str(target)])
    return str(target)


def relative(pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        raise NotBuilt(f"{command[0]} does not run ({error})") from error
    output = done.stdout + done.stderr
    if done.returncode != 0:
        print(output, file=sys.stderr)
        errors = [line for line in output.splitlines() if "error" in line] or output.splitlines()
        raise NotBuilt(f"{Path(command[0]).name} failed: {(errors or ['no output'])[0].strip()}")
    return output


setup(
    # Wheels are tagged for a platform because of it; BuildKernels does not use setuptools' rules.
    ext_modules=[
        Extension(
            "dietnerf._C",
            [*relative("csrc/cpu/*.cpp"), *relative("csrc/cuda/*.cu")],
            depends=[
                *relative("csrc/**/*.h"),
                *relative("csrc/**/*.cuh"),
                *relative("configs/**/*.yaml"),
            ],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels, "build_py": BuildPython, "bdist_wheel": BuildWheel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
