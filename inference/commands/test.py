"""`gcfsr test`: BasicSR's test on an option file, with our names registered."""

import argparse

from gcfsr_inference.commands.train import add_common_arguments, command_line

EXAMPLES = """
gcfsr test -opt options/test_gcfsr_x64.yml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of BasicSR's `test.py`, which parses them again."""
    parser.add_argument(
        "-opt", required=True, metavar="FILE", help="option file, or the name of one that comes with gcfsr"
    )
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from gcfsr_arch.train import run_pipeline

    run_pipeline(command_line(args), is_train=False)
