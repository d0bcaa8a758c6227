"""`gcfsr completion SHELL`: a script by which a shell completes commands, options and file names."""

import argparse

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import say_text

SHELLS = ("bash", "zsh", "fish", "tcsh")
PATHS = ("IN", "FILE", "FOLDER", "CHECKPOINT", "JSON", "MASK", "OPTIONS.yml", "FACE", "OUT", "RUN", "[LABEL=]FILE")
EXAMPLES = """
gcfsr completion bash >> ~/.bash_completion
gcfsr completion zsh > ~/.zfunc/_gcfsr
gcfsr completion fish > ~/.config/fish/completions/gcfsr.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, help="whose script to print; start a new shell once it is stored")


def run(args: argparse.Namespace) -> None:
    """Prints the script.

    Raises:
        GCFSRError: shtab, which writes it, is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise GCFSRError("completion: shtab is not installed; pip install 'gcfsr[completion]'") from None
    say_text(shtab.complete(whole_parser(shtab.FILE), args.shell))


def whole_parser(paths: object) -> argparse.ArgumentParser:
    """The program's parser with those of all commands in it; arguments that take a path have `paths` as `complete`."""
    from gcfsr_inference.cli import COMMANDS, add_command

    parser = argparse.ArgumentParser(prog="gcfsr")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers()
    for name, line in COMMANDS.items():
        complete_paths(add_command(commands.add_parser(name, help=line), name), paths)
    return parser


def complete_paths(parser: argparse.ArgumentParser, paths: object) -> None:
    """Marks the arguments of a parser, and of those below it, that take a path."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                complete_paths(below, paths)
        elif action.metavar in PATHS:
            action.complete = paths  # pyright: ignore[reportAttributeAccessIssue] - as shtab wants it
