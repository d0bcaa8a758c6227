"""The `gcfsr` command: a table of subcommands, each imported only when it is called."""

import argparse
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

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
    "completion": "print a script that completes gcfsr's commands and options in a shell",
}

EXAMPLES = """
gcfsr restore photo.jpg
gcfsr demo --open
gcfsr restore --help
"""
TRAINERS = ("train", "test")
ANSWERS = ("check-options", "info", "weights", "completion")  # whose output is what they are called for
SEPARATOR = "\ngcfsr: error: "  # between the faults of an option file, all of which one error holds


class Parser(argparse.ArgumentParser):
    """Which prints by `console`: what was typed is escaped, and a stream that cannot be written is an error."""

    def _print_message(self, message: str, file: Any = None) -> None:
        console.say_text(message, error=file is not sys.stdout)

    def error(self, message: str) -> NoReturn:
        """One line, without the usage, which takes 20."""
        console.say(f"gcfsr: error: {message}; `{self.prog} --help` lists what it takes", error=True)
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """The outer parser: it knows the commands' names and help lines, not their arguments."""
    listing = "\n".join(f"  {name:15} {line}" for name, line in COMMANDS.items())
    parser = Parser(
        prog="gcfsr",
        description="Generative and controllable face super-resolution.",
        epilog=f"commands:\n{listing}\n\n`gcfsr COMMAND --help` shows a command's options.\n\n{listed(EXAMPLES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="gcfsr [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("command", nargs="?", choices=list(COMMANDS), metavar="COMMAND", help="one of those below")
    return parser


def command_module(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"gcfsr_inference.commands.{name.replace('-', '_')}")


def add_command(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """Adds the arguments of `gcfsr NAME` to a parser; returns it."""
    module = command_module(name)
    parser.description, parser.formatter_class = COMMANDS[name], argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    parser.epilog = f"{parser.epilog or ''}{listed(module.EXAMPLES)}"
    if name not in TRAINERS:  # they have a --debug of BasicSR's, and tracebacks are for who wrote the code
        parser.add_argument("--debug", action="store_true", help="print the traceback of an unexpected error")
    if name not in (*TRAINERS, *ANSWERS):
        parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
        parser.add_argument(
            "--verbose", action="store_true", help="print more: the network and the device that are used"
        )
    return parser


def listed(examples: str) -> str:
    """Examples, one command per line, for the end of a help text."""
    return "examples:\n" + "".join(f"  {line}\n" for line in examples.strip().splitlines())


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0 done, 2 something the user passed is wrong or an unexpected error, 130 interrupted.
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
    except GCFSRError as error:  # the help cannot be printed
        status = _fail(str(error))
    except KeyboardInterrupt:
        console.say("gcfsr: interrupted", error=True)
        return 130
    except BrokenPipeError:  # the reader of our output has closed it (`| head`)
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
    parser = add_command(Parser(prog=f"gcfsr {args.command}"), args.command)
    unexpected = () if args.command in TRAINERS else Exception
    # inputs may come before and after options; argparse does not support that with figures' subcommands
    options = (parser.parse_args if args.command == "figures" else parser.parse_intermixed_args)(argv[1:])
    console.set_level(getattr(options, "quiet", False), getattr(options, "verbose", False))
    try:
        check_current_folder()
        return command_module(args.command).run(options) or 0
    except BrokenPipeError:
        raise
    except GCFSRError as error:
        return _fail(*str(error).split(SEPARATOR))
    except unexpected as error:
        return _fail(console.unexpected_error(error, options.debug))


def check_current_folder() -> None:
    """Raises GCFSRError where the current folder was deleted, where torch cannot load."""
    try:
        os.getcwd()
    except OSError as error:
        raise GCFSRError("the current folder no longer exists; change to another one") from error


def _fail(*lines: str) -> int:
    for line in lines:
        console.say(f"gcfsr: error: {line}", error=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
