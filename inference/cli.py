"""The `gcfsr` command: a table of subcommands, each imported only when it is called."""

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference import console

# name: one-line help; the module is gcfsr_inference.commands.NAME (dashes become underscores)
COMMANDS = {
    "restore": "restore faces in images, folders, photographs or videos",
    "merge-manifests": "join the manifests of the shares of a large run",
    "sweep": "one face at several strengths: sheet, animation or page with a slider",
    "evaluate": "compare restorers with the paper's metrics and write a report",
    "figures": "the paper's tables and figures from checkpoints and logs",
    "export": "write a checkpoint as ONNX or safetensors",
    "demo": "serve a page with a slider in the browser",
    "train": "train from an option file with BasicSR's trainer",
    "test": "run BasicSR's test from an option file",
    "bench-train": "train several option files on the same budget and compare them",
    "check-options": "check an option file and print it resolved, or all its faults",
    "check-data": "check a folder of images before training",
    "plot": "draw loss and metric curves of runs",
    "info": "parameters, MACs and memory of a configuration or checkpoint",
    "weights": "list the weights that are available and where others belong",
}

TRAINERS = ("train", "test")
SEPARATOR = "\ngcfsr: error: "  # between the faults of an option file, all of which one error holds


class Parser(argparse.ArgumentParser):
    """Whose errors print what was typed escaped."""

    def error(self, message: str) -> NoReturn:
        super().error(console.printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The outer parser: it knows the commands' names and help lines, not their arguments."""
    listing = "\n".join(f"  {name:14} {line}" for name, line in COMMANDS.items())
    parser = Parser(
        prog="gcfsr",
        description="Generative and controllable face super-resolution.",
        epilog=f"commands:\n{listing}\n\n`gcfsr COMMAND --help` shows a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="gcfsr [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("command", nargs="?", choices=list(COMMANDS), metavar="COMMAND", help="one of those below")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0 done, 2 something the user passed is wrong or an error that nobody expected, 130 interrupted.
    """
    try:
        console.prepare()
    except GCFSRError as error:
        return _fail(str(error))
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
    except SystemExit as done:  # argparse has printed its help or a line
        if console.leave_quietly():
            return 2
        raise done
    except KeyboardInterrupt:
        console.say("gcfsr: interrupted", error=True)
        return 130
    except BrokenPipeError:  # whoever read our output has gone (`| head`)
        status = 1
    return console.leave_quietly() or status


def _run(argv: list[str]) -> int:
    outer = build_parser()
    args = outer.parse_args(argv[:1])
    if args.version:
        from gcfsr_arch import __version__

        console.say(f"gcfsr {__version__}")
        return 0
    if args.command is None:
        outer.print_help()
        return 2
    module = import_module(f"gcfsr_inference.commands.{args.command.replace('-', '_')}")
    parser = Parser(prog=f"gcfsr {args.command}", description=COMMANDS[args.command])
    module.add_arguments(parser)
    if args.command in TRAINERS:  # they have a --debug of BasicSR's, and tracebacks are for who wrote the code
        unexpected = ()
    else:
        parser.add_argument("--debug", action="store_true", help="print the traceback of an unexpected error")
        unexpected = Exception
    options = parser.parse_args(argv[1:])
    try:
        return module.run(options) or 0
    except BrokenPipeError:
        raise
    except GCFSRError as error:
        return _fail(*str(error).split(SEPARATOR))
    except unexpected as error:
        return _fail(console.unexpected_error(error, options.debug))


def _fail(*lines: str) -> int:
    for line in lines:
        console.say(f"gcfsr: error: {line}", error=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
