"""How often is the estimated factor right? `python benchmarks/autofactor.py FACES --checkpoint gcfsr-256 [--every N]`.

FACES holds aligned faces of 256 x 256 that nothing was fitted to. Each is reduced by known factors, by the exact
bicubic kernel or as a photograph is, clean or degraded, and enlarged or aligned to 256 again, rounded to 8 bits each
time. Three estimates of that image alone are compared: the spectrum's, what the checkpoint's estimator reads, and what
"auto" takes (`Restorer.estimate_factor`). Nothing is timed.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import table

from gcfsr import Restorer, estimate_factor
from gcfsr_datasets.degradation import small_size
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_datasets.resize import resize

SIZE = 256
GROUPS = {"1": (1,), "1.5 to 3": (1.5, 2, 3), "4 to 24": (4, 6, 8, 12, 16, 24)}
ESTIMATES = ("spectrum", "network", "auto")
Make = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def rounded(image: np.ndarray) -> np.ndarray:
    """Clipped and rounded to 8 bits."""
    return np.clip(image, 0, 255).round().astype(np.uint8)


def bicubic(face: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Reduced and enlarged by the exact kernel; draws nothing."""
    n = small_size(SIZE, factor)
    small = rounded(resize(face.astype(np.float64), (n, n)))
    return rounded(resize(small.astype(np.float64), (SIZE, SIZE)))


def photograph(wear: Wear, enlarge: float = 1.0) -> Make:
    """Reduced by area in a photograph in which the face is turned, worn, enlarged by at most `enlarge`, and aligned."""

    def make(face: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
        phase = rng.random(), rng.random()
        draw = Photograph(rng.uniform(-8, 8), phase, "area", "bicubic", enlarge, wear)
        return rounded(apply_photograph(face.astype(np.float32) / 255, factor, draw, rng) * 255)

    return make


WORN = Wear(noise=6 / 255, quality=60)
KINDS: dict[str, Make] = {
    "nothing, exact bicubic": bicubic,
    "nothing": photograph(Wear()),
    "nothing, enlarged twofold": photograph(Wear(), 2.0),
    "noise 6, JPEG 60": photograph(WORN),
    "noise 6, JPEG 60, enlarged to its old size": photograph(WORN, 99.0),
    "blur 0.6": photograph(Wear(sigma=(0.6, 0.6))),
    "blur 1": photograph(Wear(sigma=(1.0, 1.0))),
    "gray grain 10": photograph(Wear(noise=10 / 255, gray_noise=True)),
    "noise 10": photograph(Wear(noise=10 / 255)),
    "JPEG 40": photograph(Wear(quality=40)),
    "blur 1, noise 6, JPEG 60": photograph(Wear(sigma=(1.0, 1.0), noise=6 / 255, quality=60)),
}


def errors_in_octaves(face: np.ndarray, make: Make, restorer: Restorer, rng: np.random.Generator) -> list[np.ndarray]:
    """log2(estimate / true factor) of `ESTIMATES` for each factor of each group: (factors, 3) per group."""
    found = []
    for factors in GROUPS.values():
        rows = []
        for factor in factors:
            image = make(face, factor, rng)
            true = SIZE / small_size(SIZE, factor) if make is bicubic else factor
            read = float(restorer.backend.estimate(restorer.encode(image)).mean[0, 0]) * restorer.max_factor
            estimates = estimate_factor(image, restorer.out_size), max(1.0, read), restorer.estimate_factor(image)
            rows.append(np.log2(np.array(estimates) / true))
        found.append(np.array(rows))
    return found


def summary(errors: np.ndarray) -> str:
    """Share within an octave, median error, and the size that one in ten errors exceeds."""
    return f"{(np.abs(errors) <= 1).mean():.0%} ({np.median(errors):+.2f}, {np.quantile(np.abs(errors), 0.9):.2f})"


def main() -> None:
    """Prints the table in Markdown and stores every error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--checkpoint", default="gcfsr-256", help="of 256 pixels, with an estimator [gcfsr-256]")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth face [1]")
    parser.add_argument("--out", type=Path, help="JSON")
    args = parser.parse_args()
    paths, restorer = list_images(args.faces)[:: args.every], Restorer.load(args.checkpoint)
    if not restorer.backend.estimates:
        parser.error(f"--checkpoint {args.checkpoint}: it has no estimator")
    found: dict[str, list[list[np.ndarray]]] = {kind: [] for kind in KINDS}
    for number, path in enumerate(paths):
        face, rng = read_image(path).bgr, np.random.default_rng(number)
        for kind, make in KINDS.items():
            found[kind].append(errors_in_octaves(face, make, restorer, rng))
    print(f"{len(paths)} faces. Within one octave (median error, 90% of errors are smaller than; octaves):\n")
    groups = {kind: [np.concatenate(group) for group in zip(*faces, strict=True)] for kind, faces in found.items()}
    groups["all"] = [np.concatenate(group) for group in zip(*groups.values(), strict=True)]
    rows = [
        [kind if k == 0 else "", name, *(summary(errors[:, k]) for errors in by_group)]
        for kind, by_group in groups.items()
        for k, name in enumerate(ESTIMATES)
    ]
    print(table([["degraded by", "estimate", *GROUPS], *rows]))
    if args.out:
        plain = {kind: [errors.round(3).tolist() for errors in by_group] for kind, by_group in groups.items()}
        args.out.write_text(json.dumps({"faces": [path.name for path in paths], "errors": plain}))


if __name__ == "__main__":
    main()
