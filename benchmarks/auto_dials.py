"""Where "auto" is to set the dials: what each choice gains over the input.

    python benchmarks/auto_dials.py FACES --checkpoint gcfsr-256 --every 12 --embedding MobileFaceNet.onnx

Every face is made an input as in `worn_faces.py`, degraded as the row says. The first table has the factor at its
true place and compares settings of the other dials: the true ones, all 0, what the network reads plus a number of its
deviations (`gcfsr_arch.estimator.MARGIN` is what "auto" adds), all 1. The second has the other dials at "auto" and
compares the factor's: true, the spectrum's estimate, what the network reads, and "auto"
(`Restorer.estimate_factor`). Only the network is measured: nothing is pasted, and no face is left as it is.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from timing import table
from worn_faces import degraded

from gcfsr import Restorer, estimate_factor
from gcfsr_arch.conditions import CONDITIONS
from gcfsr_datasets.dataset_options import PhotographDraws
from gcfsr_datasets.degradation.photograph import wear_of
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_inference.evaluation.inputs import read_blind_ranges
from gcfsr_inference.restore.dial import clip_factor
from gcfsr_measure.catalogue import measure_of
from gcfsr_measure.measures import Case, Measure
from gcfsr_measure.pixels import psnr

DEGRADED = {  # the dials of blur, noise and JPEG; the names hold for the ranges of train_gcfsr_256_dials.yml
    "clean": (0.0, 0.0, 0.0),
    "blur 1": (1 / 1.5, 0.0, 0.0),
    "noise 6": (0.0, 6 / 15, 0.0),
    "noise 12": (0.0, 12 / 15, 0.0),
    "JPEG 60": (0.0, 0.0, 40 / 60),
    "JPEG 40": (0.0, 0.0, 1.0),
    "blur 0.6, noise 6, JPEG 60": (0.6 / 1.5, 6 / 15, 40 / 60),
}
MARGINS = (0.0, 0.5, 1.0, 2.0)
Dials = Mapping[str, float | str]
Choices = dict[str, Dials]


def dials_by_choice(restorer: Restorer, given: np.ndarray, true: Sequence[float]) -> tuple[Choices, Choices]:
    """The settings that are compared, by name: of the dials but the factor's, and of the factor's.

    Args:
        restorer: a network of four conditions with an estimator.
        given: (256, 256, 3) BGR uint8.
        true: the four conditions, each in [0, 1].
    """
    read = restorer.backend.estimate(restorer.encode(given))
    mean, deviation = read.mean[0].cpu().numpy(), read.deviation[0].cpu().numpy()

    def all_of(values: Sequence[float] | np.ndarray) -> Dials:
        return dict(zip(CONDITIONS, (true[0], *(float(v) for v in values)), strict=True))

    def at(factor: float) -> Dials:
        return {"factor": clip_factor(factor, restorer) / restorer.max_factor}

    read_plus = {f"read + {m:g}": all_of(np.clip(mean + m * deviation, 0, 1)[1:]) for m in MARGINS}
    others = {"true": all_of(true[1:]), "all 0": all_of((0, 0, 0)), **read_plus, "all 1": all_of((1, 1, 1))}
    factors = {
        "true": at(true[0] * restorer.max_factor),
        "spectrum": at(estimate_factor(given, restorer.out_size)),
        "network": at(float(mean[0]) * restorer.max_factor),
        "auto": at(restorer.estimate_factor(given)),
    }
    return others, factors


def gains(restorer: Restorer, face: np.ndarray, given: np.ndarray, choices: Choices, cosine: Measure) -> np.ndarray:
    """(choices, 2): gain over the input in PSNR (dB) and in the cosine to the ground truth."""
    results = [restorer.restore(given, s=s) for s in choices.values()]
    cosines = [float(v) for v in cosine([Case(face, x, given) for x in (given, *results)])]  # type: ignore[arg-type]
    before = psnr(given, face)
    return np.array([(psnr(x, face) - before, c - cosines[0]) for x, c in zip(results, cosines[1:], strict=True)])


def main() -> None:
    """Prints the two tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path, help="folder of aligned faces of the network's size")
    parser.add_argument("--checkpoint", default="gcfsr-256")
    parser.add_argument("--options", type=Path, default=Path("options/train_gcfsr_256_dials.yml"), help="its ranges")
    parser.add_argument("--factors", type=float, nargs="+", default=[2.0, 4.0, 8.0])
    parser.add_argument("--every", type=int, default=1, help="take every Nth face [1]")
    parser.add_argument("--embedding", type=Path, required=True, help="MobileFaceNet.onnx")
    args = parser.parse_args()
    restorer, ranges = Restorer.load(args.checkpoint), read_blind_ranges(args.options)
    if not restorer.backend.estimates or restorer.conditions != CONDITIONS:
        parser.error(f"--checkpoint {args.checkpoint}: it needs the dials {', '.join(CONDITIONS)} and an estimator")
    if not isinstance(ranges, PhotographDraws):
        parser.error(f"--options {args.options}: its data set is not of photographs")
    faces = [read_image(file).bgr for file in list_images(args.faces)[:: args.every]]
    cosine = measure_of("mobilefacenet", args.embedding, "cpu")
    found: tuple[dict[str, np.ndarray], ...] = ({}, {})
    names: Sequence[Sequence[str]] = ()
    for words, shares in DEGRADED.items():
        wear = wear_of(*shares, ranges=ranges)
        for factor in args.factors:
            pairs = []
            for seed, face in enumerate(faces):
                given = degraded(face, factor, wear, seed)
                both = dials_by_choice(restorer, given, (factor / restorer.max_factor, *shares))
                pairs.append([gains(restorer, face, given, choices, cosine) for choices in both])
                names = [list(choices) for choices in both]
            for k, rows in enumerate(found):
                rows[f"{words} /{factor:g}"] = np.mean([pair[k] for pair in pairs], axis=0)
    print(f"{len(faces)} faces; mean gain over the input: PSNR in dB, cosine.")
    for rows, heading in zip(found, names, strict=True):
        rows["all"] = np.mean(list(rows.values()), axis=0)
        cells = [[name, *(f"{dB:+.2f}, {c:+.3f}" for dB, c in row)] for name, row in rows.items()]
        print("\n" + table([["input", *heading], *cells]))


if __name__ == "__main__":
    main()
