"""Scenes x methods x seeds into one table: `python -m dietnerf.benchmark PLAN.yaml --out FOLDER`.

A plan names scenes and methods, each by the words that `train.py fit` takes for it, and the number
of seeds:

    scenes:
      lego: [--data.reader.init_args.root, nerf_synthetic/lego]
    methods:
      fast: [--config, fast]
      preset: [--config, fast, --config, object-8view]
    seeds: 3

Every run is trained and tested in a process of its own, one for each free GPU at a time, or
`--processes` of them on the CPU; `--seeds` replaces the plan's number. What is done is not done
again, and what was broken off goes on from its last checkpoint. The table is written after every
run, to `table.md` and `table.json` in the folder.
"""

import io
import json
import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from threading import Lock
from typing import Any

import torch

from dietnerf.arguments import Parser, number, path_name
from dietnerf.errors import UserError, exit_on_user_error, leaving_on_signals, printable
from dietnerf.files import check_links, check_regular, check_writable, remove_parts, write_file
from dietnerf.locks import FolderLock
from dietnerf.plans import MOST_SEEDS, Plan, Run, runs_of
from dietnerf.runs.results import read_results

SCORES = ("psnr", "ssim_uniform7", "lpips_vgg_paper")


def check_words(plan: Plan) -> None:
    """Refuse words that `train.py fit` would not accept, before time is spent.

    Raises:
        UserError: a method, or a scene, is not as it should be.
    """
    from dietnerf.training.cli import main as train

    scene, method = next(iter(plan.scenes)), next(iter(plan.methods))
    pairs = [(scene, name) for name in plan.methods] + [(name, method) for name in plan.scenes]
    for scene, method in pairs:
        said = io.StringIO()
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(said):
                train(["fit", *plan.methods[method], *plan.scenes[scene], "--print_config"])
        except SystemExit as ended:
            if ended.code:
                reason = said.getvalue().strip().splitlines()[-1].removeprefix("error: ")
                raise UserError(f"{method}, {scene}: {reason}") from ended


def places(n_processes: int) -> list[str | None]:
    """The GPUs that the environment leaves, by name, or without any as many places on the CPU."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(torch.cuda.device_count())]
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")][: len(names)]
    return [*names] or [None] * n_processes


class Children:
    """Processes that this one waits for, and stops when it is stopped itself."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._is_stopped = Lock(), False

    def is_done(self, command: list[str], **options: Any) -> bool:
        """Run a command to its end. Returns whether it succeeded."""
        with self._lock:
            if self._is_stopped:
                return False
            child = subprocess.Popen(command, **options)
            self._running.add(child)
        try:
            return child.wait() == 0
        finally:
            with self._lock:
                self._running.remove(child)

    def stop(self) -> None:
        """Let all end as `fit` does, with a checkpoint, and begin no more."""
        with self._lock:
            self._is_stopped = True
            for child in self._running:
                child.terminate()


def carry_out(run: Run, device: str | None, children: Children) -> bool:
    """Train and test, on the given GPU or on the CPU; whether it worked."""
    checkpoints = run.folder / "checkpoints"
    going_on = ["--ckpt_path", "last"] if (checkpoints / "last.ckpt").exists() else []
    environment = dict(os.environ)
    quiet = ["--run", str(run.folder), "--trainer.enable_progress_bar", "false"]
    if device is None:
        quiet += ["--trainer.accelerator", "cpu"]
    else:
        environment["CUDA_VISIBLE_DEVICES"] = device
    program = [sys.executable, "-c", "from dietnerf.training.cli import main; main()"]
    run.folder.mkdir(parents=True, exist_ok=True)
    log_file = run.folder / "log.txt"
    if log_file.exists():
        check_regular(log_file)
    with log_file.open("a") as log:
        where: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log}
        commands = ["fit", *run.words, *going_on], ["test"]
        return all(children.is_done([*program, *words, *quiet], **where) for words in commands)


def row_of(runs: list[Run]) -> dict[str, Any] | None:
    """Mean and spread (largest less smallest) over the seeds that are done."""
    done = [_result(run) for run in runs if run.results.is_file()]
    if not done:
        return None
    row: dict[str, Any] = {"scene": runs[0].scene, "method": runs[0].method, "seeds": len(done)}
    for name in SCORES:
        values = [result["mean"][name] for result in done if result["mean"][name] is not None]
        row[name] = mean(values) if values else None
        row[f"{name}_spread"] = max(values) - min(values) if values else None
    row["lowest_psnr"] = min(result["mean"]["psnr"] for result in done)
    row["train_seconds"] = median(result["train_seconds"] for result in done)
    row |= {name: done[0][name] for name in ("protocol", "device", "threads", "train_view_ids")}
    row["command"] = " ".join(["python train.py fit", *runs[0].words[:-2]])
    return row


def _result(run: Run) -> dict[str, Any]:
    """What `test` wrote of a run.

    Raises:
        UserError: it is something else.
    """
    found = read_results(run.folder)
    content = json.loads(run.results.read_text())
    kinds = {"protocol": str, "device": str, "threads": int, "train_view_ids": list}
    is_whole = all(isinstance(content.get(name), kind) for name, kind in kinds.items())
    if found is None or not is_whole or not isinstance(content.get("train_seconds"), float | int):
        raise UserError(f"{run.results} is not what `test` wrote: remove it, to test once more")
    return content | {"mean": {name: found.mean.get(name) for name in ("psnr", *SCORES)}}


def rows_of(plan: Plan, runs: list[Run]) -> list[dict[str, Any]]:
    """A row for each scene and method, as far as they are done."""
    rows = [
        row_of([run for run in runs if (run.scene, run.method) == (scene, method)])
        for scene in plan.scenes
        for method in plan.methods
    ]
    return [row for row in rows if row is not None]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, with what made it underneath."""
    lines = [
        "| scene | method | PSNR (spread) | SSIM | LPIPS | seconds | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lpips = row["lpips_vgg_paper"]
        lines.append(
            f"| {row['scene']} | {row['method']} | {row['psnr']:.2f} ({row['psnr_spread']:.2f}) "
            f"| {row['ssim_uniform7']:.3f} | {'' if lpips is None else f'{lpips:.3f}'} "
            f"| {row['train_seconds']:.0f} | {row['seeds']} |"
        )
    for row in _means(rows):
        lines.append(
            f"| mean of {row['n']} | {row['method']} | {row['psnr']:.2f} "
            f"| {row['ssim_uniform7']:.3f} | | {row['train_seconds']:.0f} | |"
        )
    lines += ["", "SSIM: 7x7 uniform window; LPIPS: VGG on [0, 1], as the paper's code.", ""]
    for row in rows:
        lines.append(
            f"- {row['scene']}, {row['method']}: {row['protocol']}; {row['device']}, "
            f"{row['threads']} threads; `{row['command']}`"
        )
    return "\n".join(lines) + "\n"


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each method over the scenes, where there are several and it is done on all."""
    scenes = {row["scene"] for row in rows}
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    if len(scenes) < 2:
        return []
    names = ("psnr", "ssim_uniform7", "train_seconds")
    return [
        {"method": method, "n": len(own), **{name: mean(r[name] for r in own) for name in names}}
        for method, own in by_method.items()
        if len(own) == len(scenes)
    ]


def write_table(plan: Plan, runs: list[Run], out: Path) -> None:
    rows = rows_of(plan, runs)
    for name, text in (("json", json.dumps(rows, indent=2) + "\n"), ("md", markdown(rows))):
        write_file(out / f"table.{name}", text)


def carry_out_all(runs: list[Run], plan: Plan, out: Path, n_processes: int) -> None:
    """Run what is not done yet, and write the table after each.

    Raises:
        UserError: some of them failed.
    """
    todo = [run for run in runs if not run.results.is_file()]
    free: queue.Queue[str | None] = queue.Queue()
    for device in places(n_processes):
        free.put(device)
    print(f"{len(runs)} runs, {len(runs) - len(todo)} of them done; {free.qsize()} at a time")
    writing, failed, children = Lock(), [], Children()

    def work(run: Run) -> None:
        device = free.get()
        try:
            is_done = carry_out(run, device, children)
        finally:
            free.put(device)
        with writing:
            print(f"{'done' if is_done else 'FAILED'}: {printable(run.folder)}", flush=True)
            if not is_done:
                failed.append(run)
            write_table(plan, runs, out)

    with ThreadPoolExecutor(free.qsize()) as pool:
        try:
            list(pool.map(work, todo))
        except BaseException:  # mostly a signal, by which the command ends
            children.stop()
            raise
    write_table(plan, runs, out)
    print("\n".join(map(printable, (out / "table.md").read_text().splitlines())))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(runs)} runs failed; {failed[0].folder / 'log.txt'} says why"
        )


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Carry a plan out; `args` defaults to the command line."""
    parser = Parser(prog="dietnerf benchmark", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("plan", type=path_name)
    add("--out", type=path_name, default=Path("runs/benchmark"))
    few = number(int, 1, MOST_SEEDS)
    add("--processes", type=few, default=1, help="at a time, where there is no GPU")
    add("--seeds", type=few, help="instead of the plan's number")
    options = parser.parse_args(args)
    check_writable(options.out, "--out")
    check_links(options.out)
    remove_parts(options.out)
    plan = Plan.read(options.plan)
    if options.seeds is not None:
        plan = replace(plan, seeds=options.seeds)
    check_words(plan)
    with FolderLock(options.out, "benchmark", "--out"):
        carry_out_all(runs_of(plan, options.out), plan, options.out, options.processes)


if __name__ == "__main__":
    main()
