"""`dietnerf export`: a scene as a mesh, points, splats, depth maps or cameras, and on the hub."""

from dietnerf.arguments import Parser
from dietnerf.devices import usable_device
from dietnerf.errors import exit_on_user_error, leaving_on_signals
from dietnerf.export import cameras, depth, mesh, points, pull, push, splats
from dietnerf.training.runtime import prepare_process

COMMANDS = {
    "mesh": mesh,
    "points": points,
    "splats": splats,
    "depth": depth,
    "cameras": cameras,
    "push": push,
    "pull": pull,
}


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Export a scene; `args` defaults to the command line."""
    parser = Parser(prog="dietnerf export", description=__doc__)
    ways = parser.add_subparsers(dest="what", required=True)
    for name, way in COMMANDS.items():
        words = (way.__doc__ or "").partition(": ")[2]
        way.add_options(ways.add_parser(name, description=words, help=words))
    options = parser.parse_args(args)
    way = COMMANDS[options.what]
    way.check(options)
    if hasattr(options, "device"):
        usable_device(options.device, "--device")
    prepare_process()
    way.run(options)
