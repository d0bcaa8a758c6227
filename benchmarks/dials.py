"""The control card of a network of several conditions: what each dial does.

    python benchmarks/dials.py FACES --checkpoint dials.safetensors --factor 4

For each dial, every face is reduced by the factor and worn by that dial's degradation alone, to `--wear` of it; the
dial turns through nine settings while the others stay at their true place. Blur is measured by the slope at the ground
truth's edges, noise by its standard deviation in flat skin, JPEG by the kinks over the borders of its blocks, the
factor by the variance of the Laplacian (`gcfsr_measure.degradations`). Whether a wrong setting deforms the face is
measured by how far its landmarks lie from those at the true setting. How well the network reads the dials is in the
report of `gcfsr evaluate --method dials.safetensors?dials=auto`.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcfsr import Restorer
from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.files import write_atomic
from gcfsr_datasets.dataset_options import PhotographDraws
from gcfsr_datasets.degradation import resized, to_uint8
from gcfsr_datasets.degradation.photograph import Photograph, apply_photograph, wear_of
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_inference.evaluation.inputs import read_blind_ranges
from gcfsr_inference.figures.common import new_figure, save_figure
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.detect.detection import Detector
from gcfsr_measure.degradations import blocking, edge_sharpness, flat_area, residual_noise, strong_edges
from gcfsr_measure.pixels import sharpness

SETTINGS = 9
MEASURES = ("variance of the Laplacian", "slope at edges", "noise in flat skin", "blocking")  # of `CONDITIONS`
RISES = {"factor": True, "blur": True, "noise": False, "jpeg": False}  # the measure, as its dial is raised
DETECTED = 128  # pixels of a face for the detector, whose landmarks jump more in larger ones
TOLERANCE = 0.01  # of the whole change, that a step may go the other way
Image = NDArray[np.uint8]


def measures_of(gt: Image, side: int) -> Callable[[Image], list[float]]:
    """Result -> the measures of `CONDITIONS`, in their order."""
    flat, edges = flat_area(gt), strong_edges(gt)

    def measured(image: Image) -> list[float]:
        return [
            sharpness(image), edge_sharpness(image, gt, edges), residual_noise(image, gt, flat),
            blocking(resized(image, side)),
        ]  # fmt: skip

    return measured


def settings_of(name: str, restorer: Restorer) -> NDArray:
    """(SETTINGS,) of a dial, in [0, 1]: the factor's equal in octaves."""
    if name != "factor":
        return np.linspace(0, 1, SETTINGS)
    return np.geomspace(restorer.min_factor / restorer.max_factor, 1, SETTINGS).clip(max=1)


def landmarks_of(image: Image, detector: Detector) -> NDArray:
    """(5, 2) of the face that the detector is surest of, at the size at which it is most exact; NaN for no face."""
    found = detector.detect(resized(image, DETECTED))
    return max(found, key=lambda face: face.score).landmarks if found else np.full((5, 2), np.nan)


def shift(points: NDArray, others: NDArray) -> float:
    """Mean distance of five landmarks, in shares of the distance between the eyes of `others`."""
    return float(np.linalg.norm(points - others, axis=1).mean() / np.linalg.norm(others[0] - others[1]))


def turned(
    restorer: Restorer, gt: Image, factor: float, wear: float, ranges: PhotographDraws, seed: int, detector: Detector
) -> tuple[NDArray, NDArray]:
    """Every setting of every dial, the others at their true place.

    Returns:
        (k, SETTINGS, 4) the measures, and (k, 2): how far the landmarks move from those at the true setting, at the
        worse of the two settings around it that are one step away; and how far those lie from the ground truth's.
    """
    found, shifts, measured, real = [], [], measures_of(gt, round(len(gt) / factor)), landmarks_of(gt, detector)
    for name in restorer.conditions:
        shares = {one: wear if one == name else 0.0 for one in CONDITIONS[1:]}
        draw = Photograph(wear=wear_of(**shares, ranges=ranges))
        lq = to_uint8(apply_photograph(gt.astype(np.float32) / 255, factor, draw, np.random.default_rng(seed)))
        true = {**shares, "factor": factor / restorer.max_factor}
        known = {one: true[one] for one in restorer.conditions}
        features = restorer.encode(lq)
        settings = settings_of(name, restorer)
        images = [restorer.decode(features, {**known, name: float(s)}) for s in settings]
        found.append([measured(image) for image in images])
        matched = landmarks_of(restorer.decode(features, known), detector)
        place = np.interp(known[name], settings, range(SETTINGS))
        off = [images[i] for i in {max(round(place) - 1, 0), min(round(place) + 1, SETTINGS - 1)}]
        moved = max(shift(landmarks_of(image, detector), matched) for image in off)
        shifts.append([moved, shift(matched, real)])
    return np.array(found), np.array(shifts)


def monotone(curves: NDArray, rises: bool) -> NDArray:
    """Whether each curve (faces, SETTINGS) goes its way at every step, up to `TOLERANCE` of its range."""
    steps = np.diff(curves if rises else -curves, axis=1)
    return (steps >= -TOLERANCE * np.ptp(curves, axis=1, keepdims=True)).all(1) & (steps.sum(1) > 0)


def card(found: NDArray, shifts: NDArray, conditions: Sequence[str]) -> dict[str, dict]:
    """By condition: its measure at both ends, the share of faces that go one way, and what it does to the others.

    Args:
        found: (faces, k, SETTINGS, 4) of `turned`.
        shifts: (faces, k, 2) of `turned`.
        conditions: of the network.

    Returns:
        `moves` is the mean change of each measure over the change that its own dial makes: 1 for its own.
    """
    change = found[:, :, -1] - found[:, :, 0]  # (faces, k, 4)
    own = {name: change[:, i, CONDITIONS.index(name)].mean() for i, name in enumerate(conditions)}
    rows = {}
    for i, name in enumerate(conditions):
        curves = found[:, i, :, CONDITIONS.index(name)]
        moves = {other: float(change[:, i, CONDITIONS.index(other)].mean() / own[other]) for other in conditions}
        rows[name] = {
            "measure": curves.mean(0).tolist(),
            "monotone": float(monotone(curves, RISES[name]).mean()),
            "moves": moves,
            "shift": np.nanquantile(shifts[:, i], (0.5, 1), axis=0).T.tolist(),  # median and largest of each
            "lost": int(np.isnan(shifts[:, i, 0]).sum()),
        }
    return rows


def text(content: dict) -> str:
    """The card in Markdown."""
    names = list(content["card"])
    lines = [
        f"{content['faces']} faces, factor {content['factor']:g}, each degradation alone, at {content['wear']:g}.",
        "",
    ]
    lines += [f"| dial | its measure, lowest to highest | monotone | {' | '.join(f'moves {n}' for n in names)} |"]
    lines += ["|---|---|---|" + "---|" * len(names)]
    for name, row in content["card"].items():
        moves = " | ".join(f"{row['moves'][other]:+.2f}" for other in names)
        ends = f"{row['measure'][0]:.2f} to {row['measure'][-1]:.2f}"
        lines.append(f"| {name} | {ends} | {row['monotone']:.0%} | {moves} |")
    lines += ["", "| dial | landmarks one step off: median, largest | of the ground truth: median, largest | lost |"]
    lines += ["|---|---|---|---|"]
    for name, row in content["card"].items():
        (moved, most), (apart, furthest) = row["shift"]
        lines.append(f"| {name} | {moved:.1%}, {most:.1%} | {apart:.1%}, {furthest:.1%} | {row['lost']} |")
    return "\n".join(lines) + "\n"


def figure(found: NDArray, restorer: Restorer) -> Any:
    """Each dial's own measure over its settings: mean, and the middle half of the faces. `found` as in `card`."""
    drawn = new_figure(3.2 * found.shape[1], 3.0)
    axes = drawn.subplots(1, found.shape[1], squeeze=False)[0]
    for axis, name, curves in zip(axes, restorer.conditions, found.swapaxes(0, 1), strict=True):
        own = curves[:, :, CONDITIONS.index(name)]
        settings = settings_of(name, restorer)
        axis.plot(settings, own.mean(0))
        axis.fill_between(settings, *np.quantile(own, (0.25, 0.75), axis=0), alpha=0.2)
        axis.set_xlabel(f"s of {name}")
        axis.set_ylabel(MEASURES[CONDITIONS.index(name)])
    axes[0].set_xscale("log", base=2)
    return drawn


def main() -> None:
    """Prints the card, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path, help="folder of aligned faces of the network's size")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--options", type=Path, default=Path("options/train_gcfsr_256_dials.yml"), help="its ranges")
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--wear", type=float, default=0.8, help="of a dial's degradation, in [0, 1] [0.8]")
    parser.add_argument("--every", type=int, default=1, help="take every Nth face [1]")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--figure", type=Path, help="draw each measure against its dial, PNG")
    args = parser.parse_args()
    restorer = Restorer.load(args.checkpoint)
    faces = [read_image(file).bgr for file in list_images(args.faces)[:: args.every]]
    ranges = read_blind_ranges(args.options)
    if not isinstance(ranges, PhotographDraws):
        parser.error(f"--options {args.options}: its data set is not of photographs")
    detector = build_detector("yunet", confidence=0.3)
    draws = (args.factor, args.wear, ranges)
    pairs = [turned(restorer, gt, *draws, seed, detector) for seed, gt in enumerate(faces)]
    found, shifts = (np.stack(parts) for parts in zip(*pairs, strict=True))
    rows = card(found, shifts, restorer.conditions)
    content = {"faces": len(faces), "factor": args.factor, "wear": args.wear, "card": rows}
    if args.json:
        write_atomic(args.json, json.dumps(content, indent=1).encode())
    if args.figure:
        save_figure(args.figure, figure(found, restorer))
    print(text(content), end="")


if __name__ == "__main__":
    main()
