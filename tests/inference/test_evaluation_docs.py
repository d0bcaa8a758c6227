"""Every command line of docs/evaluation.md is one that its command takes; every table of keys is complete."""

import re
import shlex
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

from gcfsr_inference.evaluation.conditions import PROTOCOLS, find_protocol
from gcfsr_inference.evaluation.method_names import OPTIONS
from gcfsr_measure.catalogue import ENTRIES


def test_command_lines(root: Path) -> None:
    text = (root / "docs" / "evaluation.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        program, command, *rest = shlex.split(line)
        assert program == "gcfsr"
        parser = ArgumentParser()
        import_module(f"gcfsr_inference.commands.{command.replace('-', '_')}").add_arguments(parser)
        args = parser.parse_args(rest)
        if getattr(args, "factors", None) and command == "evaluate":
            find_protocol(args.protocol, args.factors)


def test_tables_are_complete(root: Path) -> None:
    text = (root / "docs" / "evaluation.md").read_text()
    for key, entry in ENTRIES.items():
        assert f"`{key}`" in text or key.endswith("-y"), key
        assert entry.weights is None or f"`{entry.weights}`" in text, key
    for name in (*PROTOCOLS, *OPTIONS):
        assert f"`{name}" in text, name
