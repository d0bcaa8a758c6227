"""Draws what a checkpoint does to faces: input, restored, ground truth, clean and as a worn photograph shows them."""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from gcfsr import Restorer
from gcfsr_arch.errors import exit_status
from gcfsr_datasets.degradation import degrade_multi_factor, to_uint8
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.image_io import list_images, read_image, write_image
from gcfsr_datasets.resize import resize

WORN = Photograph(6.0, (0.3, 0.7), "area", "bicubic", 1.0, Wear(noise=6 / 255, quality=60))


def row(restorer: Restorer, face: np.ndarray, factor: float, worn: bool, side: int) -> np.ndarray:
    """Input, restored at the estimated factor, ground truth, side by side, BGR uint8.

    Args:
        restorer: the checkpoint.
        face: (S, S, 3) BGR float32 in [0, 1], S the checkpoint's size.
        factor: by which the face is reduced.
        worn: as a worn photograph shows it, instead of the paper's clean reduction.
        side: of each image of the row in pixels.
    """
    random = np.random.default_rng(0)
    given = apply_photograph(face, factor, WORN, random) if worn else degrade_multi_factor(face, factor, quantize=True)
    images = [to_uint8(given), restorer.restore(to_uint8(given)), to_uint8(face)]
    return np.hstack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])


def main() -> None:
    """Writes one image: a row per face, a block of columns per factor and input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path, nargs="+", help="folders or images of aligned faces")
    parser.add_argument("--checkpoint", help="[the default one of the package]")
    parser.add_argument("--factors", type=float, nargs="+", default=[4.0, 8.0])
    parser.add_argument("--worn", action="store_true", help="inputs as a worn photograph shows them")
    parser.add_argument("--every", type=int, default=1, help="take every Nth face [1]")
    parser.add_argument("--side", type=int, default=160, help="pixels of each image [160]")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    restorer = Restorer.load(args.checkpoint)
    size = (restorer.out_size, restorer.out_size)
    files = [file for place in args.faces for file in (list_images(place) if place.is_dir() else [place])][
        :: args.every
    ]
    faces = [np.clip(resize(read_image(file).bgr.astype(np.float32) / 255, size), 0, 1) for file in files]
    rows = [np.hstack([row(restorer, face, f, args.worn, args.side) for f in args.factors]) for face in faces]
    write_image(args.out, np.vstack(rows))


if __name__ == "__main__":
    sys.exit(exit_status(main))
