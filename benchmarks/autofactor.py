"""How often is the estimated factor right? `python benchmarks/autofactor.py FACES [--every N] [--out autofactor.json]`.

FACES holds aligned faces of 256 x 256 that the estimator was not fitted to. Each is reduced by known factors, by the
exact bicubic kernel or as a photograph is, clean or worn, and enlarged or aligned to 256 again, rounded to 8 bits each
time; the estimator gets that image alone. Nothing is timed.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from timing import table

from gcfsr_datasets.degradation import small_size
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_datasets.resize import resize
from gcfsr_inference.restore.autofactor import estimate_factor

FACTORS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
SIZE = 256
Make = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def rounded(image: np.ndarray) -> np.ndarray:
    """Clipped and rounded to 8 bits, as float64."""
    return np.clip(image, 0, 255).round()


def shrink(face: np.ndarray, factor: float) -> np.ndarray:
    """The small image a file would hold."""
    n = small_size(SIZE, factor)
    return rounded(resize(face, (n, n)))


def enlarge(small: np.ndarray, interpolation: int | None = None) -> np.ndarray:
    """To 256: exact bicubic, or one of OpenCV's."""
    if interpolation is None:
        return rounded(resize(small, (SIZE, SIZE)))
    return rounded(cv2.resize(small, (SIZE, SIZE), interpolation=interpolation))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG and back."""
    data = cv2.imencode(".jpg", image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float64)


def grain(image: np.ndarray, rng: np.random.Generator, sigma: float = 5) -> np.ndarray:
    """Gaussian noise of `sigma` 8-bit steps."""
    return rounded(image + rng.normal(0, sigma, image.shape))


def photograph(wear: Wear, enlarge: float = 1.0) -> Make:
    """Reduced by area in a photograph in which the face is turned, worn, enlarged by at most `enlarge`, and aligned."""

    def make(face: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
        phase = rng.random(), rng.random()
        draw = Photograph(rng.uniform(-8, 8), phase, "area", "bicubic", enlarge, wear)
        return rounded(apply_photograph(face.astype(np.float32) / 255, factor, draw, rng) * 255)

    return make


WORN = Wear(None, 0.0, 6 / 255, False, 60)
KINDS: dict[str, Make] = {
    "bicubic": lambda face, factor, rng: enlarge(shrink(face, factor)),
    "bicubic, stored at its own size": lambda face, factor, rng: shrink(face, factor),
    "bicubic, stored at 1024": lambda face, factor, rng: rounded(resize(shrink(face, factor), (1024, 1024))),
    "JPEG 75 when small": lambda face, factor, rng: enlarge(jpeg(shrink(face, factor), 75)),
    "JPEG 60 at 256": lambda face, factor, rng: jpeg(enlarge(shrink(face, factor)), 60),
    "noise 5 when small": lambda face, factor, rng: enlarge(grain(shrink(face, factor), rng)),
    "noise 5 at 256": lambda face, factor, rng: grain(enlarge(shrink(face, factor)), rng),
    "enlarged by Lanczos": lambda face, factor, rng: enlarge(shrink(face, factor), cv2.INTER_LANCZOS4),
    "enlarged bilinearly": lambda face, factor, rng: enlarge(shrink(face, factor), cv2.INTER_LINEAR),
    "enlarged by nearest": lambda face, factor, rng: enlarge(shrink(face, factor), cv2.INTER_NEAREST),
    "photograph": photograph(Wear()),
    "photograph, noise 6 and JPEG 60": photograph(WORN),
    "photograph, noise 6 and JPEG 60, enlarged to its old size": photograph(WORN, FACTORS[-1]),
    "photograph, blur 0.8, noise 6 and JPEG 60": photograph(Wear((0.8, 0.8), 0.0, 6 / 255, False, 60)),
    "photograph, grain 10": photograph(Wear(None, 0.0, 10 / 255, True, None)),
}


def errors_in_octaves(faces: list[np.ndarray], factor: float, make: Make) -> np.ndarray:
    """log2(estimate / true factor) of every face; the true factor is 256 over the small image's side."""
    rng = np.random.default_rng(0)
    true = SIZE / small_size(SIZE, factor)
    estimates = [estimate_factor(make(face, factor, rng).astype(np.uint8)) for face in faces]
    return np.log2(np.array(estimates) / true)


def summary(errors: np.ndarray) -> str:
    """Share within an octave, and the median error."""
    return f"{(np.abs(errors) <= 1).mean():.0%} ({np.median(errors):+.2f})"


def main() -> None:
    """Prints the tables in Markdown and stores every error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth face [1]")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    paths = list_images(args.faces)[:: args.every]
    faces = [read_image(path).bgr.astype(np.float64) for path in paths]
    found = {kind: {f: errors_in_octaves(faces, f, make) for f in FACTORS} for kind, make in KINDS.items()}
    print(f"{len(faces)} faces. Within one octave (median error in octaves):")
    rows = [[kind, *map(summary, by_factor.values())] for kind, by_factor in found.items()]
    print("\n" + table([["degraded by", *(f"{factor:g}" for factor in FACTORS)], *rows]))
    if args.out:
        plain = {kind: {str(f): errors.round(3).tolist() for f, errors in rows.items()} for kind, rows in found.items()}
        args.out.write_text(json.dumps({"faces": [path.name for path in paths], "errors": plain}))


if __name__ == "__main__":
    main()
