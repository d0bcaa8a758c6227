"""`gcfsr evaluate`: compares restorers with the paper's metrics and writes a report."""

import argparse
from pathlib import Path
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.common import add_device, at_least
from gcfsr_inference.console import counted, is_quiet, note, say_text

METHODS = """methods ([LABEL=]SPEC, any number):
  bicubic, lanczos                    the usual baselines
  gcfsr                               the bundled checkpoint
  FILE.safetensors, FILE.pth [?s=0.5] a checkpoint of ours or of the authors; the dial follows the factor unless fixed
      [?dials=auto|true|0.5]          also of blind inputs: all dials as restore sets them, at what made the input, or
                                      all but the factor's at a number
  folder:PATH                         result images by name: PATH/x16/NAME.png, or PATH/NAME.png for one condition
  basicsr:OPTIONS.yml:CHECKPOINT      network_g of a BasicSR option file   [?input=up&range=signed&fit=yes]
  spandrel:FILE                       any model that spandrel recognises   [?input=up&range=signed&fit=yes]
  python:MODULE:FUNCTION              f(low, factor, size): BGR uint8 in, BGR out

"""
EXAMPLES = """
gcfsr evaluate --gt celeba/ --protocol celeba-1024-x64 --method bicubic --method gcfsr-1024.pth \\
    --method GPEN=folder:results/gpen --out report/
gcfsr evaluate --gt faces/ --out-size 256 --factors 4,8,16,32 --method bicubic --method gcfsr --out report/
gcfsr evaluate --compare a/report.json b/report.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcfsr evaluate`."""
    parser.epilog = METHODS
    task = parser.add_argument_group("task")
    task.add_argument("--gt", "--truth", metavar="FOLDER", help="ground truth images")
    task.add_argument("--out", metavar="FOLDER", help="report, inputs and results; a stopped run is resumed")
    task.add_argument("--protocol", help="celeba-1024-x64 (Table 2, Fig. 1), blind-512 (Table 3), adv-512 (Table 4)")
    task.add_argument("--factors", help="instead of a protocol: 4,8,24.5,32@48 (@: the dial), blind")
    task.add_argument("--blind", metavar="OPTIONS.yml", help="option file with the ranges of the blind degradation, "
                      "or of photographs' (default: CelebA-Test's, for 512 pixels)")  # fmt: skip
    task.add_argument("--method", action="append", default=[], metavar="[LABEL=]SPEC", help="see below; repeat it")
    task.add_argument("--out-size", type=int, metavar="N", help="resize the square ground truth to NxN by bicubic")
    task.add_argument("--include", action="append", default=[], metavar="PATTERN", help="only such names: 'lon_*'")
    task.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    task.add_argument("--max-pixels", type=int, metavar="N", help="largest image, by its header [100 million]")
    task.add_argument("--seed", type=int, default=0, help="of the degradation and the fixed noise (default 0)")
    task.add_argument(
        "--on-bad", choices=("error", "exclude"), default="error",
        help="missing, extra or unreadable images, other sizes, NaN: stop, or exclude the image everywhere",
    )  # fmt: skip
    metrics = parser.add_argument_group("metrics")
    metrics.add_argument("--metrics", help="comma list; default: the paper's, and substitutes whose weights are found")
    metrics.add_argument("--y-channel", action="store_true", help="add PSNR and SSIM on Y")
    metrics.add_argument(
        "--weights-dir",
        "--weights",
        dest="weights",
        metavar="FOLDER",
        help="weights of the metrics (also GCFSR_WEIGHTS)",
    )
    metrics.add_argument("--download", action="store_true", help="download missing weights into that folder")
    report = parser.add_argument_group("report")
    report.add_argument("--groups", action="append", default=[], metavar="HOW", help="groups with own tables: prefix, "
                        "prefix:lon_=real,gen_=generated, origin, luminance, origin+luminance; repeat it")  # fmt: skip
    report.add_argument("--sheets", type=int, default=8, metavar="N", help="images with a sheet (default 8)")
    report.add_argument("--title", default="Evaluation", help="heading of the report")
    report.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"), help="paired tests between two reports")
    report.add_argument("--pair", nargs=2, metavar=("LABEL_A", "LABEL_B"), help="the methods to compare")
    how = parser.add_argument_group("running")
    add_device(how)
    how.add_argument("--batch", type=int, default=4, help="images at once (default 4)")
    how.add_argument("--jobs", type=int, default=1, help="processes that degrade and score (default 1)")
    how.add_argument("--overwrite", action="store_true", help="delete the files of an earlier run in --out")


def run(args: argparse.Namespace) -> int:
    """Evaluates, or compares two reports."""
    from gcfsr_datasets.image_io import list_images
    from gcfsr_inference.evaluation.method_names import check_method, parse_method
    from gcfsr_inference.restore.dial import check_seed

    if args.compare:
        return _compare(args)
    for option in ("gt", "out"):
        if getattr(args, option) is None:
            raise GCFSRError(f"--{option}: is required (or --compare A.json B.json)")
    for option, least in (("batch", 1), ("jobs", 1), ("sheets", 0), ("limit", 1), ("out_size", 1), ("max_pixels", 1)):
        at_least(f"--{option.replace('_', '-')}", getattr(args, option), least)
    check_seed(args.seed)
    if not args.method:
        raise GCFSRError("--method: name at least one, for example --method bicubic")
    for text in args.method:  # raises at once, before torch is loaded
        check_method(parse_method(text))
    list_images(args.gt)
    if args.protocol is None and args.factors is None:
        raise GCFSRError("--protocol or --factors: one of them is needed, for example --factors 4,8,16")

    from gcfsr_arch.devices import keep_freed_memory
    from gcfsr_inference.evaluation.evaluate import evaluate
    from gcfsr_inference.evaluation.report.tables import warnings
    from gcfsr_inference.evaluation.report.text import not_computed
    from gcfsr_inference.evaluation.workspace import Workspace

    keep_freed_memory()
    settings = _settings(args)
    if args.overwrite:
        Workspace(settings.out).clear()
    with _Progress() as advance:
        report = evaluate(settings, args.sheets, advance, args.title)
    names = {entry["name"] for entry in report["excluded"]}
    compared = counted(len(report["images"]), "image")
    note(f"{compared} compared, {len(names)} excluded: {Path(args.out) / 'report.html'}")
    for line in [*warnings(report), *not_computed(report)]:
        note(line)
    if not report["images"]:
        raise GCFSRError(f"{Path(args.out) / 'report.md'}: no image was left to compare; see the reasons there")
    return 0


def _settings(args: argparse.Namespace) -> Any:
    from gcfsr_arch.devices import choose_device
    from gcfsr_datasets.image_io import MAX_PIXELS
    from gcfsr_inference.evaluation.conditions import CELEBA_TEST, find_protocol
    from gcfsr_inference.evaluation.evaluate import Settings
    from gcfsr_inference.evaluation.inputs import read_blind_ranges
    from gcfsr_inference.evaluation.metric_weights import default_metrics

    metrics = args.metrics.split(",") if args.metrics else default_metrics(args.weights)
    return Settings(
        gt=args.gt,
        out=args.out,
        protocol=find_protocol(args.protocol, args.factors),
        methods=tuple(args.method),
        metrics=tuple(metrics) + (("psnr-y", "ssim-y") if args.y_channel else ()),
        weights=args.weights,
        download=args.download,
        seed=args.seed,
        batch=args.batch,
        jobs=args.jobs,
        device=choose_device(args.device),
        on_bad=args.on_bad,
        out_size=args.out_size,
        include=tuple(args.include),
        limit=args.limit,
        groups=tuple(args.groups),
        max_pixels=args.max_pixels or MAX_PIXELS,
        blind=read_blind_ranges(args.blind) if args.blind else CELEBA_TEST,
    )


def _compare(args: argparse.Namespace) -> int:
    from gcfsr_inference.evaluation.report.compare import compare, comparison_text, load_report
    from gcfsr_inference.evaluation.workspace import write_json

    found = compare(load_report(args.compare[0]), load_report(args.compare[1]), [args.pair] if args.pair else [])
    say_text(comparison_text(found))
    if args.out:
        write_json(Path(args.out) / "compare.json", found)
    return 0


class _Progress:
    """A progress bar on standard error, one line per step."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self.bar = Progress("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                            console=Console(stderr=True))  # fmt: skip
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Any:
        return self.advance

    def __exit__(self, *error: object) -> None:
        if self.tasks:
            self.bar.stop()

    def advance(self, what: str, count: int, total: int) -> None:
        if is_quiet():
            return
        self.bar.start()  # only once there is something to show
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total)
        self.bar.update(self.tasks[what], advance=count, total=total)
