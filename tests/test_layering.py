"""The layout of the code: which folder may import which, and that ops and configs are complete."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dietnerf.training import cli

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dietnerf"

# A file imports from smaller numbers, and from its own folder.
LAYERS = {
    "errors": 0,
    "commands": 0,
    "machine": 0,
    "specs": 0,
    "synchronization": 0,
    "arguments": 1,
    "chunks": 1,
    "files": 1,
    "locks": 1,
    "randomness": 1,
    "registry": 1,
    "workers": 1,
    "ops": 1,
    "option_names": 2,
    "optional": 1,
    "plain": 1,
    "geometry": 2,
    "tensor_files": 2,
    "history": 1,
    "yaml_files": 2,
    "data": 3,
    "fields": 3,
    "gaussians": 4,
    "sampling": 4,
    "visualize": 5,
    "progressive": 5,
    "renderer": 5,
    "semantics": 5,
    "schedules": 4,
    "capture_picture": 5,
    "capture_report": 6,
    "presets": 5,
    "losses": 6,
    "metrics": 6,
    "viewer": 6,
    "research": 7,
    "runs": 8,
    "scene_model": 6,
    "training": 9,
    "benchmark": 11,
    "plans": 10,
    "export": 10,
    "make": 11,
    "devices": 1,
    "doctor": 11,
    "download": 11,
    "prepare": 10,
    "demo": 11,
    "main": 12,
    "__main__": 13,
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def folder_of(module: str) -> str:
    return module.removeprefix("dietnerf.").split(".")[0]


def imported_modules(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    return whole | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path):
    here = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if path.name == "__main__.py":  # a command is above all layers, and nothing imports it
        return
    for module in imported_modules(path):
        if module.startswith("dietnerf."):
            assert folder_of(module) == here or LAYERS[folder_of(module)] < LAYERS[here], module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_frameworks_stay_in_their_folders(path: Path):
    here = path.relative_to(PACKAGE).parts[0]
    found = {module.split(".")[0] for module in imported_modules(path)}
    if here != "training":
        assert "pytorch_lightning" not in found
    if here == "ops":
        assert not found & {"numpy", "scipy", "imageio"}


MOST_LINES = {".py": 300, ".cpp": 300, ".cu": 300, ".cuh": 300, ".h": 350}
SOURCES = sorted(
    path
    for folder in ("dietnerf", "csrc", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in MOST_LINES
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path):
    source = path.read_text()
    assert len(source.splitlines()) <= MOST_LINES[path.suffix]
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 60, node.name


# Packages that a machine with a GPU may lack, and those that only single features use.
LACKING = (
    "docstring_parser", "jsonargparse", "kornia", "kornia_rs", "open_clip", "typeshed_client",
)  # fmt: skip
COLLECTING = f"""
import sys, pytest
sys.modules.update(dict.fromkeys({LACKING}))  # each import of them fails
sys.exit(pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_kernels_can_be_tested_with_little_more_than_torch():
    tests = ("tests/ops", "tests/fields", "tests/sampling", "tests/test_renderer.py")
    done = subprocess.run(
        [sys.executable, "-c", COLLECTING, *tests], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout


def test_tests_that_do_not_name_a_gpu_find_none():
    assert not torch.cuda.is_available() and torch.cuda.device_count() == 0


FOR_A_GPU = {"csrc/cpu/trace_hash_grid.cpp"}  # a CPU marches and renders as fast


def test_every_op_has_its_five_files():
    shared = {"common", "hash_grid", "math"}
    ops = {path.stem for path in (ROOT / "csrc").glob("*.h")} - shared
    assert ops
    for op in ops:
        for file in (
            f"csrc/cpu/{op}.cpp", f"csrc/cuda/{op}.cu", f"dietnerf/ops/{op}.py",
            f"tests/ops/test_{op}.py",
        ):  # fmt: skip
            assert (ROOT / file).is_file() or file in FOR_A_GPU, file


CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def command_of(config: Path) -> list[str]:
    """The arguments in the line of a config that says how it is run, an overlay on its base."""
    (command,) = re.findall(r"^#   python train\.py (fit .*)$", config.read_text(), re.MULTILINE)
    return shlex.split(command)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_parses_as_its_comment_says(config: Path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = command_of(config)
    assert [value for value in command if value.endswith(".yaml")][-1] == str(
        config.relative_to(ROOT)
    )
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--print_config"])
    assert ended.value.code in (0, None), capsys.readouterr().err


def test_dietnerf_is_the_fast_field_with_one_more_loss(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    fast = printed(["--config", "fast"], capsys)
    diet = printed(["--config", "fast", "--config", "dietnerf"], capsys)
    losses = diet["model"].pop("losses")
    assert fast["model"].pop("losses") == losses[:1]
    assert diet == fast
    names = [loss["class_path"].split(".")[-1] for loss in losses]
    assert names == ["Photometric", "SemanticConsistency"]


def printed(options: list[str], capsys) -> dict[str, Any]:
    """The whole config that options come to."""
    with pytest.raises(SystemExit):
        cli.main(["fit", *options, "--print_config"])
    content: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return content


LOCKS = ("requirements.lock", "requirements-audit.lock")


def without_comments(file: str) -> str:
    return re.sub(r" *#.*\n", "", (ROOT / file).read_text())


def entries(lock: str) -> list[str]:
    """One line a package, its hashes included."""
    return [line for line in without_comments(lock).replace("\\\n", "").splitlines() if line]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_and_hashes_all_and_names_no_place(lock: str):
    option, *packages = entries(lock)
    assert option == "--only-binary :all:", "what is built here has needs that are not locked"
    for package in packages:
        assert re.match(r"[\w.-]+==[\w.]+( ; [^:@]+)?( +--hash=sha256:[0-9a-f]{64})+$", package), (
            f"{lock}: {package[:80]} is not a version and its hashes"
        )


def test_the_lock_is_that_of_the_requirements():
    locked = {line.split()[0] for line in entries("requirements.lock")}
    for line in without_comments("requirements.txt").split():
        wanted = Requirement(line)
        assert f"{canonicalize_name(wanted.name)}{wanted.specifier}" in locked, (
            f"requirements.txt has {line}, but requirements.lock has not; run `make lock`"
        )
