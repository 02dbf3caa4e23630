"""The command `dietnerf` by its words."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dietnerf import commands, main
from dietnerf.commands import COMMANDS
from dietnerf.option_names import check_command, check_training
from tests.helpers import refused

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import sys
from dietnerf.main import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules and "numpy" not in sys.modules
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "make       a folder of photos in"),
        (["--help"], "Help for a command:"),
        (["fit", "--help"], "--scene FOLDER"),
        (["render", "-h"], "dietnerf render runs/demo"),
        (["--version"], "dietnerf 0."),
        (["fit"], "error: name a scene or a preset, as in: dietnerf fit --scene scene/"),
        (["render"], "error: name a run, as in: dietnerf render runs/demo"),
        (["export"], "error: say what is to be exported"),
        (["ift"], "error: there is no command 'ift': did you mean fit?"),
        (["xyz"], "error: there is no command 'xyz': dietnerf --help has all"),
        (["fit", "--trainer.max_stpes", "9"], "did you mean --trainer.max_steps?"),
        (["fit", "--model.filed=x"], "did you mean --model.field?"),
        (["fit", "--data.root", "x"], "error: there is no option --data.root: "),
        (["test", "--rnu", "x"], "did you mean --run?"),
        (["render", "runs/x", "--farmes", "3"], "did you mean --frames?"),
        (["make", "--film-frames", "3"], "did you mean --film_frames?"),
        (["make", "--no-fim"], "did you mean --no-film?"),
        (["view", "runs/x", "--prot=3"], "did you mean --port?"),
        (["download"], "nerf_synthetic/lego"),
        (["download", "lego", "--uot", "x"], "did you mean --out?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_misspelt_words_are_answered_without_torch(words: list[str], said: str):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, cwd=ROOT
    )
    assert said in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert done.returncode == (2 if said.startswith("error") or "did you mean" in said else 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_screen_and_names_real_options(name: str):
    text = COMMANDS[name].help_text(name)
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 110
    words = [option.split()[0] for option in COMMANDS[name].options]
    if COMMANDS[name].is_training:
        check_training(words)
    else:
        check_command(words, COMMANDS[name].files)
    assert all((ROOT / "dietnerf" / file).is_file() for file in COMMANDS[name].files)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_words_that_the_command_takes(name: str):
    for example in COMMANDS[name].examples:
        assert example.startswith(f"dietnerf {name}")
        options = re.findall(r"--\S+", example)
        if COMMANDS[name].is_training:
            check_training(options)
        else:
            check_command(options, COMMANDS[name].files)


def test_every_command_gets_its_words(monkeypatch: pytest.MonkeyPatch):
    called: list[tuple[str, list[str] | None]] = []

    def imported(module: str) -> Any:
        return SimpleNamespace(main=lambda words=None: called.append((module, words)))

    monkeypatch.setattr(main, "import_module", imported)
    main.main(["fit", "--config", "quickstart"])
    main.main(["report", "--run", "x"])
    main.main(["render", "runs/x", "--frames", "3"])
    main.main(["render", "--help", "all"])
    assert called == [
        (commands.TRAINING, ["fit", "--config", "quickstart"]),
        (commands.TRAINING, ["report", "--run", "x"]),
        ("dietnerf.export.render", ["runs/x", "--frames", "3"]),
        ("dietnerf.export.render", ["--help"]),
    ]
    monkeypatch.setattr(sys, "argv", ["dietnerf", "report", "--scene", "x"])
    main.main()
    assert called[-1] == (commands.TRAINING, None) and sys.argv[1:] == ["report", "--scene", "x"]


def test_options_of_classes_are_left_to_the_parser():
    check_training(["--model.field.init_args.any", "1", "--data.reader.root=x", "--model.losses+"])


def test_all_options_of_the_trainings_parser_are_known(capsys):
    from dietnerf.training.cli import main as train

    with pytest.raises(SystemExit):
        train(["fit", "--help"])
    options = re.findall(r"^  (--[\w.]+)", capsys.readouterr().out, re.MULTILINE)
    assert len(options) > 50
    check_training([one for one in options if one not in ("--help", "--print_config")])


@pytest.mark.parametrize("script", ["train.py", "render.py"])
def test_the_scripts_are_the_same_commands(script: str):
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and "dietnerf render" in done.stdout


def test_misspelt_words_are_one_sentence(capsys):
    assert "did you mean fit?" in refused(capsys, main.main, "fti")
