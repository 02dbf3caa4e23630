"""`dietnerf app`: the page that shows all runs of a folder, served by Streamlit."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from dietnerf.arguments import Parser, number, path_name
from dietnerf.errors import UserError, exit_on_user_error
from dietnerf.optional import how_to_install

ROOT = Path(__file__).parents[2]  # of a checkout, where Streamlit finds its options as well


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Serve the page until interrupted; `args` defaults to the command line.

    Raises:
        UserError: there is no such folder, or the page did not come with the package.
    """
    parser = Parser(prog="dietnerf app", description=__doc__)
    parser.add_argument("runs", type=path_name, nargs="?", default=Path("runs"))
    parser.add_argument("--port", type=number(int, 1, 65_535), default=8501)
    options = parser.parse_args(args)
    if not options.runs.exists():
        raise UserError(f"there is no {options.runs}; train a scene first: dietnerf fit")
    if not (ROOT / "app.py").is_file():
        raise UserError("the page is in the checkout, which the installed package is without")
    if find_spec("streamlit") is None:
        raise UserError(f"the page needs streamlit: {how_to_install('app')}")
    print(f"The page: http://127.0.0.1:{options.port}", flush=True)
    words = ["streamlit", "run", "app.py", "--server.port", str(options.port)]
    command = [sys.executable, "-m", *words, "--", str(options.runs.resolve())]
    sys.exit(subprocess.call(command, cwd=ROOT))
