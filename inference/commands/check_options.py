"""`gcfsr check-options FILE`: the resolved options, or every fault at once."""

import argparse

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import say, say_text

EXAMPLES = """
gcfsr check-options options/train_gcfsr_x64.yml
gcfsr check-options my.yml --force_yml train:total_iter=1000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and what BasicSR's command line would change in it."""
    parser.add_argument("file", nargs="?", help="option file (YAML)")
    parser.add_argument("--force_yml", nargs="+", default=[], metavar="KEY:KEY=VALUE", help="as BasicSR's --force_yml")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of option files for editors")
    parser.add_argument("--reference", action="store_true", help="print every key with its meaning (Markdown)")


def run(args: argparse.Namespace) -> int:
    """Prints to stdout what is right and to stderr what is wrong. Returns 0, or 2 where there are faults."""
    from gcfsr_arch.training.options import check_file, json_schema, reference

    if args.schema or args.reference:
        say_text(json_schema() if args.schema else reference())
        return 0
    if args.file is None:
        raise GCFSRError("check-options: name an option file, --schema, or --reference")
    report = check_file(args.file, args.force_yml)
    for remark in report.remarks():
        say(f"gcfsr: {remark}", error=True)
    for line in report.lines(args.file):
        say(f"gcfsr: error: {line}", error=True)
    if report.faults:
        return 2
    say_text(as_yaml(report.resolved))
    return 0


def as_yaml(options: dict[str, object]) -> str:
    """Resolved options as an option file."""
    import yaml

    return yaml.safe_dump(options, sort_keys=False, default_flow_style=None, width=120)
