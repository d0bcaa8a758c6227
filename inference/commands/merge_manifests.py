"""`gcfsr merge-manifests`: the manifests of all shares of a run become one."""

import argparse
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import counted, note

EXAMPLES = """
gcfsr merge-manifests results/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One argument: the folder."""
    parser.add_argument("folder", help="the output folder of the shares of `gcfsr restore --shard i/n`")


def run(args: argparse.Namespace) -> int:
    """Joins them; returns 2 where an input failed."""
    from gcfsr_inference.commands.restore.manifest import NAME, merge

    folder = Path(args.folder)
    if not folder.is_dir():
        raise GCFSRError(f"{folder}: no such folder; name the one that the shares wrote into")
    inputs, failures = merge(folder)
    note(f"{folder / NAME}: {counted(inputs, 'input')}, {failures} failed")
    return 2 if failures else 0
