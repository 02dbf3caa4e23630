"""The documentation holds: links lead somewhere, commands name what is there, its Python runs."""

import contextlib
import importlib
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PACKAGES = (
    "",
    *(
        "data",
        "fields",
        "gaussians",
        "losses",
        "ops",
        "research",
        "sampling",
        "schedules",
        "semantics",
    ),
)
MOST_LINES, MOST_WORDS = 150, 1200  # of the README


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors_of(page: Path) -> set[str]:
    """What headings are called in links, as GitHub and MkDocs make it."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MOST_LINES and len(text.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path):
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.is_file(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_files_that_are_there(page: Path):
    commands = "\n".join(SHELL.findall(page.read_text()))
    named = re.findall(r"(?<![\w/.])(?:benchmarks|configs|examples|tests)/[\w./-]+", commands)
    for file in (name.rstrip(".") for name in named):
        assert (ROOT / file).exists(), f"{name_of(page)}: {file}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_install_nothing_that_is_not_published(page: Path):
    assert not re.search(r"pip install ['\"]?dietnerf", page.read_text())


def options_of_the_site() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages_in(nav: list | dict | str) -> Iterator[str]:
    """Files that the navigation names, whatever it is nested in."""
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from pages_in(entry)


def test_the_site_shows_every_page():
    found = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages_in(options_of_the_site()["nav"])) == sorted(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str):
    path = ".".join(filter(None, ("dietnerf", package)))
    texts = [page.read_text() for page in (ROOT / "docs/reference").glob("*.md")]
    listed = set(re.findall(r"^::: ([\w.]+)$", "\n".join(texts), re.MULTILINE))
    public = {f"{path}.{name}" for name in importlib.import_module(path).__all__}
    assert public - listed <= {"dietnerf.__version__"}


def test_what_the_reference_lists_is_there():
    for page in (ROOT / "docs/reference").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
            module, _, member = name.rpartition(".")
            assert hasattr(importlib.import_module(module), member), name


def test_every_config_is_described():
    text = (ROOT / "docs/train.md").read_text()
    names = {config.name for config in (ROOT / "configs").glob("*.yaml")}
    assert names - set(re.findall(r"`([\w-]+\.yaml)`", text)) == set()


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=name_of)
def test_examples_are_quoted_as_they_are(example: Path):
    assert example.read_text() in PYTHON.findall((ROOT / "docs/extending.md").read_text())


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_runs_from_the_first_line_to_the_last(page: str, shown_run: Path, tmp_path: Path):
    run = shutil.copytree(shown_run, tmp_path / "run")
    code = "\n".join(PYTHON.findall((ROOT / page).read_text())).replace("runs/demo", str(run))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, page, "exec"), {"__name__": "__main__"})
    first = said.getvalue().splitlines()[0]
    assert first.startswith("(64, 64, 3)"), first
