"""The benchmark command: what it runs, what it leaves alone, and the table that it writes."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from dietnerf import benchmark
from dietnerf.benchmark import Children, Plan, check_words, main, runs_of
from dietnerf.files import replace_file
from dietnerf.runs.checkpoints import checkpoints_of
from tests.browser import wait_for
from tests.helpers import FEW_STEPS, refused
from tests.test_locks import held_elsewhere

PLANS = Path(__file__).parents[1] / "benchmarks/plans"
PLAN = """
scenes:
  coast: [--data.reader.init_args.scene, coast]
  clay: [--data.reader.init_args.scene, clay]
methods:
  plain: [--config, quickstart]
  distortion: [--config, quickstart, --model.table_decay, 0.1]
seeds: 2
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were called; `test` writes a result that depends on method and seed."""
    seen: list[list[str]] = []

    def call(_: Children, command: list[str], **options: Any) -> bool:
        words = command[3:]
        seen.append(words)
        folder = Path(words[words.index("--run") + 1])
        if words[0] == "test":
            seed, is_plain = int(folder.name[-1]), folder.parent.name == "plain"
            scores = {"psnr": 20.0 + seed + is_plain, "ssim_uniform7": 0.9}
            result = {
                "mean": {**scores, "lpips_vgg_paper": None},
                "train_seconds": 10.0,
                "protocol": "Procedural, 16 test views at 16x16 on white",
                "device": "a processor",
                "threads": 2,
                "train_view_ids": [0, 1],
            }
            with replace_file(folder / "metrics.json") as part:  # the other process reads it
                part.write_text(json.dumps(result))
        return True

    monkeypatch.setattr(Children, "is_done", call)
    return seen


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_plans_that_come_along_are_understood(path: Path):
    check_words(Plan.read(path))


def test_fewer_seeds_than_the_plan_has(calls: list[list[str]], plan: Path, tmp_path: Path):
    main([str(plan), "--out", str(tmp_path / "out"), "--seeds", "1"])
    rows = json.loads((tmp_path / "out/table.json").read_text())
    assert [row["seeds"] for row in rows] == [1] * 4


def test_words_that_fit_does_not_know_are_refused_before_anything_runs(
    calls: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.replace("table_decay", "table_decoy"))
    with pytest.raises(SystemExit):
        main([str(plan), "--out", str(tmp_path / "out")])
    assert "error: methods: distortion: " in capsys.readouterr().err
    assert not calls and not (tmp_path / "out").exists()


def test_every_run_has_its_folder_and_seed(plan: Path, tmp_path: Path):
    runs = runs_of(Plan.read(plan), tmp_path)
    assert len(runs) == 8 == len({run.folder for run in runs})
    assert runs[0].folder == tmp_path / "coast" / "plain" / "seed0"
    assert runs[-1].words[-2:] == ["--seed_everything", "1"]
    assert runs[1].words[:4] == ["--config", "quickstart", "--model.table_decay", "0.1"]


def test_means_and_spreads_of_all_seeds(plan: Path, tmp_path: Path, calls, capsys):
    main([str(plan), "--out", str(tmp_path / "out"), "--processes", "2"])
    assert len(calls) == 16
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| coast | plain | 21.50 (1.00) | 0.900 |  | 10 | 2 |" in table
    assert "| mean of 2 | distortion | 20.50 |" in table
    assert "`python train.py fit --config quickstart --data.reader.init_args.scene clay`" in table
    rows = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [row["lowest_psnr"] for row in rows] == [21, 20, 21, 20]
    assert table in capsys.readouterr().out


def test_what_is_done_is_not_done_again(plan: Path, tmp_path: Path, calls):
    out = tmp_path / "out"
    main([str(plan), "--out", str(out)])
    (out / "clay" / "plain" / "seed1" / "metrics.json").unlink()
    checkpoints = out / "clay" / "plain" / "seed1" / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "last.ckpt").touch()
    calls.clear()
    main([str(plan), "--out", str(out)])
    assert [call[0] for call in calls] == ["fit", "test"]
    assert calls[0][calls[0].index("--ckpt_path") + 1] == "last"


def test_a_run_that_fails_does_not_stop_the_others(plan: Path, tmp_path: Path, calls, monkeypatch):
    fake = Children.is_done

    def call(children: Children, command: list[str], **options: Any) -> bool:
        return "clay" not in command and fake(children, command, **options)

    monkeypatch.setattr(Children, "is_done", call)
    with pytest.raises(SystemExit) as ended:
        main([str(plan), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| coast | plain |" in table and "clay" not in table


def test_it_really_trains_and_tests(tmp_path: Path):
    words = ["--config", "quickstart", "--data.reader.init_args.resolution", "16", *FEW_STEPS]
    words += ["--model.sampler.init_args.resolution", "32", "--data.samples_per_step", "1024"]
    plan = tmp_path / "plan.yaml"
    content = {"scenes": {"clay": ["--data.reader.init_args.scene", "clay"]}, "seeds": 1}
    plan.write_text(json.dumps({**content, "methods": {"plain": words}}))
    main([str(plan), "--out", str(tmp_path / "out")])
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text())
    assert row["psnr"] > 5 and row["protocol"].startswith("Procedural, 16 test views at 16x16")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_runs_as_well(tmp_path: Path, number: signal.Signals):
    words = ["--config", "quickstart", "--data.reader.init_args.resolution", "16"]
    words += ["--model.sampler.init_args.resolution", "32", "--trainer.max_steps", "1000000"]
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    content = {"scenes": {"clay": ["--data.reader.init_args.scene", "clay"]}, "seeds": 2}
    plan.write_text(json.dumps({**content, "methods": {"plain": words}}))
    command = [sys.executable, "-m", "dietnerf.benchmark", str(plan), "--out", str(out)]
    folder = out / "clay/plain/seed0"
    # Where tests run in the background of a shell, SIGINT is ignored, and by children as well.
    heed = partial(signal.signal, number, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=heed) as process:
        wait_for(lambda: (folder / "config.yaml").exists(), 60)
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not child.is_running()
    assert "stopping after" in (folder / "log.txt").read_text() or not checkpoints_of(folder)
    assert not (out / "clay/plain/seed1").exists(), "another was begun"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("scenes: {a: []}", "must have scenes and methods"),
        ("{scenes: {a: []}, methods: {}}", "methods must have at least one name"),
        ("{scenes: {a: x}, methods: {b: []}}", "scenes: 'a' must be a name of letters"),
        ("{scenes: {a: []}, methods: {b: []}, seeds: 0}", "seeds is 0"),
        ("{scenes: {a: []}, methods: {b: []}, seed: 1}", "seed is not part of a plan"),
        ("{scenes: {a: []}, methods: {b: []}, seeds: 20000000}", "seeds is 20000000"),
        ("{scenes: {a: []}, methods: {b: []}, 1: 2, x: 3}", "1, x is not part of a plan"),
        ("{scenes: {..: []}, methods: {b: []}}", "scenes: '..' must be a name of letters"),
        ('{scenes: {"a\\e[2J": []}, methods: {b: []}}', "must be a name of letters"),
        ("{scenes: {a: []}, methods: {b: [--run, x]}}", "'--run' is no option"),
        ("{scenes: {a: []}, methods: {b: [fit]}}", "'fit' is no option with a value"),
        ("{scenes: {a: []}, methods: {b: [--config, nowhere]}}", "there is no config nowhere"),
        ("{scenes: ", "is not a YAML file"),
    ],
)
def test_a_wrong_plan_is_refused(content: str, message: str, tmp_path: Path, capsys):
    plan = tmp_path / "plan.yaml"
    plan.write_text(content)
    with pytest.raises(SystemExit) as ended:
        main([str(plan)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_every_run_has_a_gpu_of_those_that_the_environment_leaves(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    taken, used = [], set()

    def call(_: Children, command: list[str], env: dict[str, str], **options: Any) -> bool:
        gpu = env["CUDA_VISIBLE_DEVICES"]
        assert gpu not in taken, "two runs at a time"
        taken.append(gpu)
        used.add(gpu)
        assert "--trainer.accelerator" not in command
        time.sleep(0.05)
        taken.remove(gpu)
        return False

    monkeypatch.setattr(Children, "is_done", call)
    monkeypatch.setattr(benchmark.torch.cuda, "device_count", lambda: 2)
    for chosen, names in ((None, {"0", "1"}), ("5, 7", {"5", "7"})):
        used.clear()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if chosen is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        with pytest.raises(SystemExit):  # none of them left a result
            main([str(plan), "--out", str(tmp_path / "out")])
        assert used == names


POPEN = "{class_path: subprocess.Popen, init_args: {args: [touch, MARK]}}"
OF_STRANGERS = {
    "a command": ["--model.field", POPEN],
    "a command in what is handed on": [
        "--trainer.logger",
        "{class_path: pytorch_lightning.loggers.TensorBoardLogger, init_args: {save_dir: .}, "
        f"dict_kwargs: {{comment: {POPEN}}}}}",
    ],
    "a place": [
        "--trainer.logger",
        "{class_path: pytorch_lightning.loggers.CSVLogger, init_args: {save_dir: OUTSIDE}}",
    ],
    "a place by its parts": [
        *("--trainer.logger.class_path", "pytorch_lightning.loggers.CSVLogger"),
        *("--trainer.logger.init_args.save_dir", "OUTSIDE"),
    ],
    "a class by its name": ["--trainer.logger=CSVLogger"],
}


@pytest.mark.parametrize("words", OF_STRANGERS.values(), ids=OF_STRANGERS)
def test_an_untrusted_plan_runs_nothing(words: list[str], tmp_path: Path, calls, capsys):
    plan, mark, outside = (tmp_path / name for name in ("plan.yaml", "mark", "outside"))
    words = [w.replace("MARK", str(mark)).replace("OUTSIDE", str(outside)) for w in words]
    methods = {"m": ["--config", "quickstart", *words]}
    plan.write_text(json.dumps({"scenes": {"a": []}, "methods": methods}))
    assert "methods: m: " in refused(capsys, main, plan, "--out", tmp_path / "out")
    assert not calls and [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '{"mean": {"psnr": "x"}}', "{", "1e999"])
def test_results_of_another_form_are_named(content: str, plan: Path, tmp_path: Path, calls, capsys):
    out = tmp_path / "out"
    main([str(plan), "--out", str(out)])
    place = out / "clay/plain/seed1/metrics.json"
    place.write_text(content)
    assert str(place) in refused(capsys, main, plan, "--out", out)


@pytest.mark.parametrize("place", ["table.md", "clay/plain/seed0/log.txt", "clay"])
def test_a_link_out_of_the_folder_is_not_followed(
    place: str, plan: Path, tmp_path: Path, calls, capsys
):
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (out / place).parent.mkdir(parents=True)
    (out / place).symlink_to(outside)
    assert f"{out / place} is a link to {outside}" in refused(capsys, main, plan, "--out", out)
    assert not calls and not list(outside.iterdir())


def test_a_second_benchmark_into_a_folder_is_refused(plan: Path, tmp_path: Path, calls, capsys):
    with held_elsewhere(tmp_path / "out", "benchmark"), pytest.raises(SystemExit) as ended:
        main([str(plan), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and not calls
    assert "out is in use by another `benchmark` (process" in capsys.readouterr().err
