"""Crops of photographs without faces that two packages ship: `python tools/general_images.py data/general`.

OUT/train and OUT/test get PNG files of 128 pixels for `options/train_gcfsr_general_128.yml`, from different images:
nine of scikit-image and one of scikit-learn to train, two and one of them to test. Crops without detail are left out.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage import data
from sklearn.datasets import load_sample_image

from gcfsr_datasets.image_io import write_image

SIDE = 128
STEP = 64  # between crops to train; those to test do not overlap
LEAST = 12.0  # standard deviation of a crop's luma, of 255
TRAIN = ("motorcycle", "rocket", "hubble_deep_field", "retina", "grass", "gravel", "brick", "camera", "coins")
TEST = ("chelsea", "coffee")
SAMPLES = {"train": (TRAIN, "flower.jpg"), "test": (TEST, "china.jpg")}


def photograph(name: str) -> NDArray[np.uint8]:
    """One by name, (H, W, 3) RGB."""
    if name.endswith(".jpg"):
        return load_sample_image(name)
    image = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]


def crops(image: NDArray[np.uint8], step: int) -> Iterator[NDArray[np.uint8]]:
    """Squares of `SIDE` pixels with detail, (SIDE, SIDE, 3), row by row."""
    for top in range(0, image.shape[0] - SIDE + 1, step):
        for left in range(0, image.shape[1] - SIDE + 1, step):
            crop = image[top : top + SIDE, left : left + SIDE]
            if (crop @ np.array([0.299, 0.587, 0.114])).std() >= LEAST:
                yield crop


def main() -> None:
    """Writes both folders and prints how many crops each has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for part, (names, sample) in SAMPLES.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        count = 0
        for name in (*names, sample):
            for number, crop in enumerate(crops(photograph(name), STEP if part == "train" else SIDE)):
                stem = name.removesuffix(".jpg")
                write_image(out / part / f"{stem}_{number:03d}.png", np.ascontiguousarray(crop[..., ::-1]))
                count += 1
        print(f"{out / part}: {count} crops of {len(names) + 1} photographs")


if __name__ == "__main__":
    main()
