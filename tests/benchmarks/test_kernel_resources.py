"""The page that shows what the compiler made of the kernels, from a made-up disassembly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYMBOL = "_ZN8dietnerf8run_eachINS_10HashEncodeIfEEEEvT_l"
RESOURCES = """arch = {target}
 Function {symbol}:
  REG:56 STACK:80 SHARED:0 LOCAL:0 CONSTANT[0]:432 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
CODE = """arch = {target}
\t\tFunction : {symbol}
        /*0000*/           LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;     /* 0x00000a00ff017624 */
                                                                         /* 0x000fe400078e00ff */
        /*0010*/       @P0 STL.64 [R1], R4 ;                             /* 0x0000000001007387 */
        /*0020*/      @!P1 LDL R4, [R1] ;                                /* 0x0000000001007387 */
        /*0030*/           HMMA.16816.F32 R4, R8, R2, R4 ;               /* 0x0000000001007387 */
        /*0040*/           REDG.E.ADD.F32x4.FTZ.RN.STRONG.GPU [R2], R8 ; /* 0x0000000001007387 */
        /*0050*/           RED.E.ADD.F32.FTZ.RN.STRONG.GPU [R2], R8 ;    /* 0x0000000001007387 */
"""


def show(folder: Path, *options: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/kernel_resources.py"), *options]
    env = {**os.environ, "PATH": path or f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that only the programs beside it can read."""
    for name, form in (("resources", RESOURCES), ("code", CODE)):
        texts = (form.format(target=target, symbol=SYMBOL) for target in ("sm_120", "sm_90"))
        (tmp_path / name).write_text("".join(texts))
    says = f'[ "$1" = -sass ] && cat "{tmp_path}/code" || cat "{tmp_path}/resources"'
    for program in ("cuobjdump", "nvdisasm"):
        (tmp_path / program).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / program).chmod(0o755)
    (tmp_path / "library.so").touch()
    return tmp_path / "library.so"


def test_one_row_for_gpus_on_which_a_kernel_is_the_same(library: Path):
    page = library.parent / "kernels.md"
    done = show(library.parent, "--library", str(library), "--out", str(page))
    assert done.returncode == 0, done.stderr
    row = "| `HashEncode<float>` | sm_90, sm_120 | 56 | 0 | 80 | 2 | 1 | 1 | 2 | 1 |"
    assert row in done.stdout and row in page.read_text()
    assert "- Use local memory: `HashEncode`." in page.read_text()


def test_a_library_that_was_not_built(tmp_path: Path):
    done = show(tmp_path, "--library", str(tmp_path / "none.so"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "none.so is not there" in done.stderr
