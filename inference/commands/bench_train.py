"""`gcfsr bench-train`: trains option files with the same seed and budget and compares the networks."""

import argparse
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.common import at_least
from gcfsr_inference.console import note

EXAMPLES = """
gcfsr bench-train options/ablation/*.yml --train ffhq/ --val celeba/ --out bench/ --iterations 2000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcfsr bench-train`."""
    add = parser.add_argument
    add("options", nargs="+", metavar="OPTIONS.yml", help="option files; the others are compared with the first")
    add("--train", required=True, metavar="FOLDER", help="training images")
    add("--val", required=True, metavar="FOLDER", help="validation images")
    add("--out", required=True, metavar="FOLDER", help="runs, bench.md, bench.json; a stopped bench is resumed")
    add("--iterations", type=int, default=500, help="of each (default 500)")
    add("--seed", type=int, default=0, help="of each (default 0)")
    add("--threads", type=int, default=1, help="OMP_NUM_THREADS of each run (default 1)")
    add("--factors", default="4,8,16", help="conditions of the evaluation (default 4,8,16)")
    add("--metrics", help="as for gcfsr evaluate")
    add("--weights-dir", "--weights", dest="weights", metavar="FOLDER", help="weights of the metrics")
    add("--groups", action="append", default=[], metavar="HOW", help="as for gcfsr evaluate")


def run(args: argparse.Namespace) -> int:
    """Trains, evaluates, and prints where the report is."""
    for option, least in (("iterations", 1), ("seed", 0), ("threads", 1)):
        at_least(f"--{option}", getattr(args, option), least)
    for option in ("train", "val"):
        if not Path(getattr(args, option)).is_dir():
            raise GCFSRError(f"--{option} {getattr(args, option)}: no such folder")

    from gcfsr_inference.evaluation.bench_train import Budget, bench_train
    from gcfsr_inference.evaluation.metric_weights import default_metrics

    budget = Budget(args.iterations, args.seed, Path(args.train).resolve(), Path(args.val).resolve(), args.threads)
    metrics = args.metrics.split(",") if args.metrics else default_metrics(args.weights)
    bench_train(args.options, budget, Path(args.out), args.factors, metrics, args.weights, args.groups)
    note(f"{Path(args.out) / 'bench.md'}")
    return 0
