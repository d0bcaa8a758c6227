"""What the dials of a network of several conditions do, and how well it reads them: two tables.

    python benchmarks/dials.py FACES --checkpoint dials.safetensors --factor 4

The control card: every face is reduced by the factor and worn to `--wear` of each condition; one dial turns through
nine settings while the others stay at their true place. Blur is measured by the gradient at the ground truth's edges,
noise by its standard deviation in flat skin, JPEG by the steps over the borders of its blocks, the factor by the
variance of the Laplacian. The reading: faces degraded as an option file says, what the estimator reads of each
condition, and the PSNR with the dials at what it reads, at their true place, and at none.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from gcfsr import Restorer
from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.files import write_atomic
from gcfsr_arch.training.options import read_options
from gcfsr_datasets.dataset_options import PhotographOptions
from gcfsr_datasets.degradation import draw_factor, to_uint8
from gcfsr_datasets.degradation.conditions import conditions_of
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph, draw_photograph
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_datasets.resize import resize
from gcfsr_measure.degradations import blocking, edge_sharpness, flat_area, residual_noise, strong_edges
from gcfsr_measure.pixels import psnr, sharpness

SETTINGS = 9
RISES = {"factor": True, "blur": True, "noise": False, "jpeg": False}  # the measure, as its dial is raised
TOLERANCE = 0.01  # of the whole change, that a step may go the other way
Image = NDArray[np.uint8]


def reduced(image: Image, side: int) -> Image:
    """A result at the size of the LR image, where JPEG's blocks are."""
    return to_uint8(resize(image.astype(np.float32) / 255, (side, side)))


def measures_of(gt: Image, side: int) -> Callable[[Image], list[float]]:
    """Result -> the measures of `CONDITIONS`, in their order."""
    flat, edges = flat_area(gt), strong_edges(gt)

    def measured(image: Image) -> list[float]:
        return [
            sharpness(image), edge_sharpness(image, edges), residual_noise(image, flat), blocking(reduced(image, side)),
        ]  # fmt: skip

    return measured


def wear_at(share: float, options: PhotographOptions) -> Wear:
    """The wear whose conditions are all `share`."""
    sigma, noise = share * options.blur_sigma[1], share * options.noise_range[1] / 255
    return Wear((sigma, sigma), 0.0, noise, False, round(100 - share * (100 - options.jpeg_range[0])))


def turned(restorer: Restorer, gt: Image, factor: float, wear: Wear, options: PhotographOptions, seed: int) -> NDArray:
    """Every measure at every setting of every dial, the others at their true place: (k, SETTINGS, 4)."""
    lq = apply_photograph(gt.astype(np.float32) / 255, factor, Photograph(wear=wear), np.random.default_rng(seed))
    true = conditions_of(factor, restorer.max_factor, wear, options).tolist()
    known = {name: true[CONDITIONS.index(name)] for name in restorer.conditions}
    measured, features = measures_of(gt, round(len(gt) / factor)), restorer.encode(to_uint8(lq))
    lowest = restorer.min_factor / restorer.max_factor
    found = []
    for name in restorer.conditions:
        settings = np.geomspace(lowest, 1, SETTINGS) if name == "factor" else np.linspace(0, 1, SETTINGS)
        images = [restorer.decode(features, {**known, name: min(float(s), 1.0)}) for s in settings]
        found.append([measured(image) for image in images])
    return np.array(found)


def monotone(curves: NDArray, rises: bool) -> NDArray:
    """Whether each curve (faces, SETTINGS) goes its way at every step, up to `TOLERANCE` of its range."""
    steps = np.diff(curves if rises else -curves, axis=1)
    return (steps >= -TOLERANCE * np.ptp(curves, axis=1, keepdims=True)).all(1) & (steps.sum(1) > 0)


def card(found: NDArray, conditions: Sequence[str]) -> dict[str, dict]:
    """By condition: its measure at both ends, the share of faces that go one way, and what it does to the others.

    Args:
        found: (faces, k, SETTINGS, 4) of `turned`.
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
        }
    return rows


def reading(restorer: Restorer, faces: Sequence[Image], options: PhotographOptions) -> dict[str, dict]:
    """The estimator's error by condition, and the PSNR by where the dials are."""
    true, read, spectral, gains = [], [], [], []
    for seed, gt in enumerate(faces):
        rng, face = np.random.default_rng((7, seed)), gt.astype(np.float32) / 255
        factor = draw_factor(rng, len(gt), *options.factor_range, log=options.factor_draw == "log")
        draw = draw_photograph(rng, options)
        lq = to_uint8(apply_photograph(face, factor, draw, rng))
        conditions = conditions_of(factor, restorer.max_factor, draw.wear, options).tolist()
        features = restorer.encode(lq)
        estimate = restorer.backend.estimate(features).mean[0].tolist()
        own = {name: conditions[CONDITIONS.index(name)] for name in restorer.conditions}
        found = dict(zip(restorer.conditions, estimate, strict=True))
        by_spectrum = restorer.strength(lq)["factor"]
        none = {**dict.fromkeys(own, 0.0), "factor": own["factor"]}
        dials = {"read": {**found, "factor": by_spectrum}, "true": own, "none": none}
        given = psnr(lq, gt)
        gains.append([psnr(restorer.decode(features, dial, like=lq), gt) - given for dial in dials.values()])
        true.append(list(own.values()))
        read.append(estimate)
        spectral.append(by_spectrum)
    real, estimated = np.array(true), np.array(read)
    rows = {
        name: {
            "rank correlation": float(spearmanr(real[:, i], estimated[:, i])[0]),
            "mean absolute error": float(np.abs(real[:, i] - estimated[:, i]).mean()),
            "that of the mean": float(np.abs(real[:, i] - real[:, i].mean()).mean()),
        }
        for i, name in enumerate(restorer.conditions)
    }
    rows["factor, from the spectrum"] = {
        "rank correlation": float(spearmanr(real[:, 0], spectral)[0]),
        "mean absolute error": float(np.abs(real[:, 0] - np.array(spectral)).mean()),
    }
    rows["gain in PSNR, dB"] = dict(zip(("read", "true", "none"), np.mean(gains, axis=0).tolist(), strict=True))
    return rows


def text(content: dict) -> str:
    """Both tables in Markdown."""
    names = list(content["card"])
    lines = [f"{content['faces']} faces, factor {content['factor']:g}, each condition at {content['wear']:g}.", ""]
    lines += [f"| dial | its measure, lowest to highest | monotone | {' | '.join(f'moves {n}' for n in names)} |"]
    lines += ["|---|---|---|" + "---|" * len(names)]
    for name, row in content["card"].items():
        moves = " | ".join(f"{row['moves'][other]:+.2f}" for other in names)
        ends = f"{row['measure'][0]:.2f} to {row['measure'][-1]:.2f}"
        lines.append(f"| {name} | {ends} | {row['monotone']:.0%} | {moves} |")
    lines += ["", "| read | rank correlation | mean absolute error | that of the mean |", "|---|---|---|---|"]
    for name, row in content["reading"].items():
        if "rank correlation" in row:
            values = [f"{row[key]:.3f}" if key in row else "" for key in
                      ("rank correlation", "mean absolute error", "that of the mean")]  # fmt: skip
            lines.append(f"| {name} | {' | '.join(values)} |")
    gains = content["reading"]["gain in PSNR, dB"]
    lines += [
        "",
        "Gain in PSNR over the input, dB: " + ", ".join(f"{k} dials {v:+.2f}" for k, v in gains.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints both tables, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path, help="folder of aligned faces of the network's size")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--options", type=Path, default=Path("options/train_gcfsr_256_dials.yml"), help="its ranges")
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--wear", type=float, default=0.8, help="of every condition but the factor [0.8]")
    parser.add_argument("--every", type=int, default=1, help="take every Nth face [1]")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    args = parser.parse_args()
    restorer = Restorer.load(args.checkpoint)
    faces = [read_image(file).bgr for file in list_images(args.faces)[:: args.every]]
    block = read_options(args.options)[0]["datasets"]["train"]
    options = PhotographOptions.from_opt({**block, "phase": "val"})
    wear = wear_at(args.wear, options)
    found = np.stack([turned(restorer, gt, args.factor, wear, options, seed) for seed, gt in enumerate(faces)])
    content = {
        "faces": len(faces), "factor": args.factor, "wear": args.wear,
        "card": card(found, restorer.conditions), "reading": reading(restorer, faces, options),
    }  # fmt: skip
    if args.json:
        write_atomic(args.json, json.dumps(content, indent=1).encode())
    print(text(content), end="")


if __name__ == "__main__":
    main()
