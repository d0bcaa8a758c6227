"""Options that several commands have."""

import argparse

from gcfsr_arch.errors import GCFSRError

MOST = 1 << 40  # of an option that counts something


def add_input(parser: argparse.ArgumentParser, what: str) -> None:
    """IN ..., with or without -i: both fill `args.input`, a list, or None where there is neither."""
    parser.add_argument("input", nargs="*", action="extend", default=argparse.SUPPRESS, metavar="IN", help=what)
    parser.add_argument("-i", "--input", nargs="+", action="extend", metavar="IN", help="the same, as an option")


def add_device(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """--device."""
    parser.add_argument(
        "--device", default="auto",
        help="cpu, cuda (under torchrun each process's own), cuda:N, mps, or auto: cuda where there is any, else cpu",
    )  # fmt: skip


def at_least(option: str, value: int | None, least: int, most: int = MOST) -> int | None:
    """The value of an option, if it is not below `least` or above `most`; None where it was not given.

    Raises:
        GCFSRError: it is.
    """
    if value is not None and value < least:
        raise GCFSRError(f"{option} {value}: at least {least}")
    if value is not None and value > most:
        raise GCFSRError(f"{option} {value}: at most {most}")
    return value
