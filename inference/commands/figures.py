"""`gcfsr figures`: the paper's Table 1 and Figs. 2, 5, 6, 7, and the control card of a checkpoint."""

import argparse
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import note

KINDS = {
    "table1": "parameters and multiply-adds beside the published ones",
    "fig2": "convergence: a validation metric against iterations, several runs",
    "fig5": "faces over the dial, the best setting framed",
    "fig6": "histograms and mean curves of sigma_enc and sigma_gen, every level",
    "fig7": "two checkpoints side by side with zoomed crops",
    "card": "control card: metric against dial for each true factor, smoothness, monotony",
}
PLOTTED = ("fig2", "fig6", "card")  # with matplotlib
EXAMPLES = """
gcfsr figures table1 -v gcfsr-1024.pth -o figures/
gcfsr figures fig2 ours=experiments/a experiments/b --metric fid -o figures/
gcfsr figures fig5 -i faces/ --limit 4 -o figures/
gcfsr figures fig5 -i faces/ --condition noise --blind options/train_gcfsr_256_dials.yml -o figures/
gcfsr figures fig6 -v gcfsr-1024.pth -o figures/
gcfsr figures fig7 -v with=a.pth -v without=b.pth -i faces/ -o figures/
gcfsr figures card -i faces/ --metric psnr -o figures/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A subcommand for each figure."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="FIGURE", help="one of the figures")
    for kind, line in KINDS.items():
        own = [example for example in EXAMPLES.splitlines() if f"figures {kind} " in example]
        sub = kinds.add_parser(
            kind, help=line, description=line, epilog="\n  ".join(["examples:", *own]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.add_argument("-o", "--out", required=True, metavar="FOLDER", help="where the files go")
        if kind == "fig2":
            sub.add_argument("runs", nargs="+", metavar="[LABEL=]RUN", help="run folder, metrics.jsonl, .log or .csv")
            sub.add_argument("--metric", default="fid", help="its name in the validation (default fid)")
            continue
        many = kind in ("table1", "fig7")
        sub.add_argument("-v", "--checkpoint", action="append" if many else "store", default=[] if many else None,
                         metavar="[LABEL=]FILE" if kind == "fig7" else "FILE",
                         help="repeat it" if many else "default: the bundled one")  # fmt: skip
        if kind == "table1":
            continue
        sub.add_argument("--factors", help="true factors of the inputs, e.g. 4,8,16 (default: the range, doubling)")
        if kind == "fig6":
            continue
        sub.add_argument("-i", "--input", nargs="+", required=True, metavar="FACE", help="aligned faces or folders")
        sub.add_argument("--limit", type=int, metavar="N", help="only the first N faces")
        if kind != "fig7":
            sub.add_argument("--metric", default="psnr", help="as for gcfsr evaluate, per image (default psnr)")
            sub.add_argument(
                "--weights-dir", "--weights", dest="weights", metavar="FOLDER", help="weights of the metric"
            )
        if kind == "fig5":
            sub.add_argument("--dials", help="settings of the dial as factors (default: seven, equal in octaves)")
            sub.add_argument(
                "--condition", choices=("blur", "noise", "jpeg"), help="turn this dial, from 0 to 1, instead"
            )
            sub.add_argument("--wear", type=float, default=0.8, help="its degradation of the inputs, in [0, 1] [0.8]")
            sub.add_argument("--blind", metavar="OPTIONS.yml", help="option file whose ranges say what 1 means")


def run(args: argparse.Namespace) -> int:
    """Makes the figure and prints the files."""
    from importlib.util import find_spec
    from pathlib import Path

    from gcfsr_inference.restore.weights import resolve_checkpoint

    if args.kind in PLOTTED and find_spec("matplotlib") is None:
        raise GCFSRError(f"figures {args.kind}: matplotlib is not installed; pip install 'gcfsr[eval]'")
    named = getattr(args, "checkpoint", None) or []
    for text in [named] if isinstance(named, str) else named:
        resolve_checkpoint(text.rpartition("=")[2] if args.kind == "fig7" else text)  # raises before torch is loaded
    for file in FIGURES[args.kind](args, Path(args.out)):
        note(str(file))
    return 0


def _table1(args: argparse.Namespace, out: Any) -> Any:
    from gcfsr_inference.figures.table1 import table1

    return table1(args.checkpoint, out)


def _fig2(args: argparse.Namespace, out: Any) -> Any:
    from gcfsr_inference.figures.convergence import convergence

    return convergence(args.runs, args.metric, out)


def _metric(args: argparse.Namespace) -> Any:
    """The entry and measure of --metric."""
    from gcfsr_inference.evaluation.metric_weights import availability
    from gcfsr_measure.catalogue import entry_of

    entry = entry_of(args.metric)
    if entry.of_set:
        raise GCFSRError(f"--metric {args.metric}: is a distance between sets; a face alone has none")
    path, status = availability(entry, args.weights)
    if status != "ok":
        raise GCFSRError(f"--metric {args.metric}: {status}")
    return entry, entry.make(path, "cpu")


def _restorer(args: argparse.Namespace) -> tuple[Any, list[float]]:
    """The restorer and the true factors, checked against its range."""
    from gcfsr_inference.commands.network import open_restorer

    restorer = open_restorer(args.checkpoint)
    return restorer, _factors(args, restorer)


def _factors(args: argparse.Namespace, net: Any) -> list[float]:
    """The true factors, checked against a network's range."""
    from gcfsr_inference.figures.common import check_range, doubling, parse_numbers

    check_range(net, [], "figures")
    factors = parse_numbers(args.factors, "--factors") if args.factors else doubling(net.min_factor, net.max_factor)
    check_range(net, factors, "--factors")
    return factors


def _fig5(args: argparse.Namespace, out: Any) -> Any:
    from gcfsr_inference.figures.common import check_range, in_octaves, load_faces, parse_numbers
    from gcfsr_inference.figures.strength import strength

    net, factors = _restorer(args)
    worn = None if args.condition is None else _worn(args, net)
    if worn is not None:
        dials = [k / 6 for k in range(7)]
    else:
        dials = parse_numbers(args.dials, "--dials") if args.dials else in_octaves(net.min_factor, net.max_factor, 7)
        check_range(net, dials, "--dials")
    faces = load_faces(args.input, net.out_size, args.limit)
    return strength(net, faces, factors, dials, _metric(args), out, worn=worn)


def _worn(args: argparse.Namespace, net: Any) -> Any:
    """The degradation of --condition and --wear."""
    from gcfsr_datasets.dataset_options import PhotographDraws
    from gcfsr_datasets.degradation.photograph import wear_of
    from gcfsr_inference.evaluation.inputs import read_blind_ranges
    from gcfsr_inference.figures.strength import Worn
    from gcfsr_inference.restore.dial import DIALS, check_strength

    name = args.condition
    if name not in net.conditions:
        raise GCFSRError(f"--condition {name}: this checkpoint has no dial for it; it has {', '.join(net.conditions)}")
    if args.dials is not None:
        raise GCFSRError("--condition and --dials: its dial turns from 0 to 1; --dials are factors")
    if args.blind is None:
        raise GCFSRError(f"--condition {name}: needs --blind OPTIONS.yml, with which the checkpoint was trained")
    ranges = read_blind_ranges(args.blind)
    if not isinstance(ranges, PhotographDraws):
        raise GCFSRError(f"--blind {args.blind}: its data set is not of photographs")
    shares = {one: check_strength(args.wear) if one == name else 0.0 for one in DIALS.values()}
    return Worn(name, wear_of(**shares, ranges=ranges))


def _fig6(args: argparse.Namespace, out: Any) -> Any:
    from gcfsr_inference.figures.common import load_net
    from gcfsr_inference.figures.sigmas import sigma_figures

    net = load_net(args.checkpoint)
    return sigma_figures(net, _factors(args, net), out)


def _fig7(args: argparse.Namespace, out: Any) -> Any:
    from pathlib import Path

    from gcfsr_inference.commands.network import open_restorer
    from gcfsr_inference.figures.ablation import ablation
    from gcfsr_inference.figures.common import doubling, load_faces, parse_numbers

    if len(args.checkpoint) < 2:
        raise GCFSRError("fig7: needs two checkpoints; repeat --checkpoint")
    restorers = {}
    for text in args.checkpoint:
        label, _, path = text.rpartition("=")
        restorers[label or Path(path).stem] = open_restorer(path)
    first = next(iter(restorers.values()))
    factors = parse_numbers(args.factors, "--factors") if args.factors else doubling(first.min_factor, first.max_factor)
    return ablation(restorers, load_faces(args.input, first.out_size, args.limit), factors, out)


def _card(args: argparse.Namespace, out: Any) -> Any:
    from gcfsr_inference.figures.card import control_card
    from gcfsr_inference.figures.common import load_faces

    net, factors = _restorer(args)
    return control_card(net, load_faces(args.input, net.out_size, args.limit), factors, _metric(args), out)


FIGURES = {"table1": _table1, "fig2": _fig2, "fig5": _fig5, "fig6": _fig6, "fig7": _fig7, "card": _card}
