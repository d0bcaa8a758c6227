"""The `gcfsr` command: a table of subcommands, each imported only when it is called."""

import argparse
import os
import sys
from importlib import import_module

from gcfsr_arch.errors import GCFSRError

# name: one-line help; the module is gcfsr_inference.commands.NAME (dashes become underscores)
COMMANDS = {
    "restore": "restore faces in pictures, folders, photographs or videos",
    "sweep": "one face at several strengths: sheet, animation or page with a slider",
    "evaluate": "compare restorers with the paper's metrics and write a report",
    "figures": "the paper's tables and figures from checkpoints and logs",
    "export": "write a checkpoint as ONNX or safetensors",
    "demo": "serve a page with a slider in the browser",
    "train": "train from an option file with BasicSR's trainer",
    "test": "run BasicSR's test from an option file",
    "bench-train": "train several option files on the same budget and compare them",
    "check-options": "check an option file and print it resolved, or all its faults",
    "check-data": "check a folder of pictures before training",
    "plot": "draw loss and metric curves of runs",
    "info": "parameters, MACs and memory of a configuration or checkpoint",
    "weights": "list the weights that are at hand and where others belong",
}


def build_parser() -> argparse.ArgumentParser:
    """The outer parser: it knows the commands' names and help lines, not their arguments."""
    listing = "\n".join(f"  {name:14} {line}" for name, line in COMMANDS.items())
    parser = argparse.ArgumentParser(
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
    """Runs one command. Returns the exit status: 0 done, 2 something the user passed is wrong, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    outer = build_parser()
    args = outer.parse_args(argv[:1])
    if args.version:
        from gcfsr_arch import __version__

        print(f"gcfsr {__version__}")
        return 0
    if args.command is None:
        outer.print_help()
        return 2
    module = import_module(f"gcfsr_inference.commands.{args.command.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"gcfsr {args.command}", description=COMMANDS[args.command])
    module.add_arguments(parser)
    try:
        return module.run(parser.parse_args(argv[1:])) or 0
    except GCFSRError as error:
        print(f"gcfsr: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gcfsr: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone (`| head`): Python must not flush into nothing at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
