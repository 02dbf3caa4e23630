"""What the compiler made of each CUDA kernel: registers, memory, and the instructions that matter.

    python benchmarks/kernel_resources.py [--out docs/kernels.md] [--float64]

Reads the built library with `cuobjdump` (no GPU needed) and prints a Markdown table; GPUs on which
a kernel looks the same share a row. Kernels in float64, which only checks of gradients run, are
left out without `--float64`. A stack that is not empty lies in local memory, far from the
registers: instructions that load from and store to it should be few, and none in a loop.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from common import ROOT

from dietnerf.errors import UserError, exit_on_user_error

LIBRARY = ROOT / "dietnerf/_C_cuda.abi3.so"

# Columns that count instructions, by what the disassembler calls them.
INSTRUCTIONS = {
    "local": r"(LDL|STL)\b",
    "128-bit loads": r"LDG\b.*\.(128|256)\b",
    "matrix": r"(H|I|Q|D)G?MMA\b",
    "adds": r"(RED|ATOM)G?\b",
    "of them vectors": r"(RED|ATOM)G?\..*\.B?F\d+x\d",
}
COLUMNS = ("registers", "shared", "stack", *INSTRUCTIONS)
MEASURED = "## Measured on a GPU\n"  # from here on a page has figures: benchmarks/gpu/report.py
SAID = {"REG": "registers", "SHARED": "shared", "STACK": "stack"}  # as cuobjdump names them


@dataclass(frozen=True)
class Row:
    """One kernel and the GPUs for which it was compiled to these figures."""

    kernel: str
    targets: tuple[str, ...]
    figures: tuple[int, ...]


def find_tool(name: str) -> Path:
    """A program of the CUDA toolkit, from the PATH, the toolkit, or what comes with triton."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    folders += [
        f"{os.environ[home]}/bin" for home in ("CUDA_HOME", "CUDA_PATH") if home in os.environ
    ]
    folders.append("/usr/local/cuda/bin")
    triton = find_spec("triton")
    if triton is not None and triton.origin is not None:
        folders.append(str(Path(triton.origin).parent / "backends/nvidia/bin"))
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        raise UserError(
            f"{name} was not found: put the CUDA toolkit's bin folder on the PATH, or set CUDA_HOME"
        )
    return Path(found)


def dumped(option: str, library: Path) -> Iterator[str]:
    """What cuobjdump says of a library, line by line."""
    cuobjdump, nvdisasm = find_tool("cuobjdump"), find_tool("nvdisasm")
    path = os.pathsep.join([str(nvdisasm.parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [str(cuobjdump), option, str(library)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},  # where it looks for the disassembler
    )
    if done.returncode != 0:
        raise UserError(f"cuobjdump does not read {library}: {done.stderr.strip()}")
    return iter(done.stdout.splitlines())


def resources(lines: Iterable[str]) -> dict[tuple[str, str], Counter[str]]:
    """Registers and memory of each (symbol, target)."""
    found: dict[tuple[str, str], Counter[str]] = {}
    target = symbol = ""
    for line in lines:
        if match := re.match(r"arch = (\w+)", line):
            target = match[1]
        elif match := re.match(r"\s*Function (\S+):", line):
            symbol = match[1]
        elif re.match(r"\s*REG:", line):
            sizes = dict(re.findall(r"(\w+):(\d+)", line))
            found[symbol, target] = Counter({SAID[n]: int(sizes[n]) for n in SAID})
    return found


def instructions(lines: Iterable[str]) -> dict[tuple[str, str], Counter[str]]:
    """How many instructions of each kind each (symbol, target) has."""
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    target = symbol = ""
    for line in lines:
        if match := re.match(r"arch = (\w+)", line):
            target = match[1]
        elif match := re.match(r"\s*Function : (\S+)", line):
            symbol = match[1]
        elif match := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@\S+\s+)?([A-Z][\w.]*)", line):
            kinds = (kind for kind, form in INSTRUCTIONS.items() if re.match(form, match[1]))
            found[symbol, target].update(kinds)
    return found


def short_names(symbols: list[str]) -> dict[str, str]:
    """What each symbol is called in csrc/, without templates that only spread it over threads."""
    demangler = shutil.which("c++filt") or shutil.which("cu++filt")
    if demangler is None:
        return {symbol: symbol for symbol in symbols}
    done = subprocess.run([demangler], input="\n".join(symbols), capture_output=True, text=True)
    return dict(zip(symbols, map(shortened, done.stdout.splitlines()), strict=True))


def shortened(name: str) -> str:
    name = re.sub(
        r"\(anonymous namespace\)::|(dietnerf|rasterizing|similarity|c10|torch::headeronly)::"
        r"|^void ",
        "",
        name,
    )
    name = re.sub(r"\(.*\)$", "", name).replace(" >", ">")
    return re.sub(r"^run_\w+<(?:float, |double, )?(.*)>$", r"\1", name)


def table(library: Path, has_float64: bool) -> list[Row]:
    """A row for each kernel and each set of figures that some GPUs share."""
    figures = resources(dumped("-res-usage", library))
    for key, counts in instructions(dumped("-sass", library)).items():
        figures[key].update(counts)
    names = short_names(sorted({symbol for symbol, _ in figures}))
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for (symbol, target), counts in figures.items():
        if has_float64 or "double" not in names[symbol]:
            alike[names[symbol], tuple(counts[c] for c in COLUMNS)].append(target)
    rows = [
        Row(kernel, tuple(sorted(targets, key=number)), sizes)
        for (kernel, sizes), targets in alike.items()
    ]
    return sorted(rows, key=lambda row: (row.kernel, number(row.targets[0])))


def number(target: str) -> int:
    return int(re.sub(r"\D", "", target))


def markdown(rows: list[Row]) -> str:
    lines = ["| kernel | GPUs | " + " | ".join(COLUMNS) + " |"]
    lines.append("|---" * 2 + "|---:" * len(COLUMNS) + "|")
    lines += [
        f"| `{row.kernel}` | {', '.join(row.targets)} | {' | '.join(map(str, row.figures))} |"
        for row in rows
    ]
    return "\n".join(lines)


def those_with(rows: list[Row], column: str) -> str:
    """Kernels that have some of a column on any GPU, whatever the type."""
    at = COLUMNS.index(column)
    kernels = sorted({row.kernel.split("<")[0] for row in rows if row.figures[at] > 0})
    return ", ".join(f"`{kernel}`" for kernel in kernels) or "none"


def build_of(library: Path) -> str:
    """Compiler and targets, as the record beside the library has them."""
    record = library.parent / "_build_info.json"
    info = json.loads(record.read_text()) if record.exists() else {}
    return info.get("cuda", {}).get("how", "a compiler that left no record")


def page(rows: list[Row], how: str) -> str:
    return f"""# The CUDA kernels as compiled

Written by `python benchmarks/kernel_resources.py --out docs/kernels.md` from the machine code of

    {how}

`shared` and `stack` are bytes. The columns behind them count instructions: `local` those that load
from local memory or store to it, `matrix` those of the tensor cores, `adds` additions into memory
that others add to as well. From sm_90 on 1,024 bytes of shared memory are the system's own, and
what the kernels of the networks (`Tile...`) are given when they are launched is not in the table.

- Use local memory: {those_with(rows, "local")}.
- Use tensor cores: {those_with(rows, "matrix")}.
- Load 16 bytes or more at a time: {those_with(rows, "128-bit loads")}.
- Add several numbers by one instruction: {those_with(rows, "of them vectors")}.

{markdown(rows)}
"""


def with_measured(page: str, measured: str) -> str:
    """A page whose last part, the figures of a GPU, is replaced, or added where there is none."""
    before = page.partition(MEASURED)[0].rstrip()
    return f"{before}\n\n{measured}" if measured else f"{before}\n"


def measured_in(page: Path) -> str:
    """The last part of a page, empty where there is none."""
    _, mark, rest = (page.read_text() if page.exists() else "").partition(MEASURED)
    return mark + rest


@exit_on_user_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=LIBRARY)
    parser.add_argument("--out", type=Path, help="write the table into a page")
    parser.add_argument("--float64", action="store_true", help="also kernels in float64")
    args = parser.parse_args()
    if not args.library.is_file():
        raise UserError(f"{args.library} is not there; `python -m dietnerf.ops` says why")
    rows = table(args.library, args.float64)
    print(markdown(rows))
    if args.out is not None:
        made = page(rows, build_of(args.library))
        args.out.write_text(with_measured(made, measured_in(args.out)))


if __name__ == "__main__":
    main()
