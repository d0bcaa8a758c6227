"""Fits the dial's `auto`: `python tools/train_autofactor.py FACES [FACES ...] --out inference/restore/autofactor.json`.

Folders of aligned faces of 256 x 256 pixels. Each is reduced by known factors as photographs are (rotated, any phase
and kernel, clean or worn, enlarged again) and measured by `autofactor.band_levels`. A small network of tanh units is
fitted from the levels to log2 of the size in pixels that was left. It takes some minutes on one core.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from gcfsr_arch.errors import exit_status
from gcfsr_datasets.degradation import small_size
from gcfsr_datasets.degradation.photograph import PhotographRanges, Wear, degrade_photograph, draw_wear, wear_out
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_datasets.resize import resize
from gcfsr_inference.restore.autofactor import SIZE, band_levels

SIDES = (128, 256)  # the sizes at which faces are aligned
MOST = 96.0  # the largest factor at 256
ENLARGED = (1.2, 20.0)  # half of the photographs were enlarged, up to this, but never beyond the face's old size
LATE_WEAR = 0.15  # share of samples that are worn after they were enlarged, or without being reduced
UNITS = 24
STEPS, BATCH, RATE = 6000, 512, 3e-3


def sample(face: np.ndarray, rng: np.random.Generator, ranges: PhotographRanges) -> tuple[np.ndarray, float]:
    """One reduced face: its band levels, and log2 of the pixels across that were left.

    Args:
        face: (256, 256, 3) BGR float32 in [0, 1].
        rng: draws everything.
        ranges: how photographs are degraded.
    """
    side = int(rng.choice(SIDES))
    image = face if side == SIZE else np.clip(resize(face, (side, side)), 0, 1).astype(np.float32)
    factor = float(np.exp(rng.uniform(0, np.log(MOST * side / SIZE))))
    if rng.random() < 0.05:
        factor = 1.0
    late = rng.random() < LATE_WEAR
    if factor > 1:
        image = degrade_photograph(image, factor, rng, ranges)
    if late:
        wear = draw_wear(rng, ranges)
        image = wear_out(np.clip(image, 0, 1), Wear(None, 0.0, wear.noise, wear.gray_noise, wear.quality), rng)
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return band_levels(pixels), float(np.log2(small_size(side, factor) if factor > 1 else side))


def samples(paths: list[Path], draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`draws` samples of every face: levels (N, bands) and log2 sizes (N,)."""
    ranges = PhotographRanges(enlarge_prob=0.5, enlarge_range=ENLARGED)
    found = []
    for number, path in enumerate(paths):
        face = read_image(path).bgr.astype(np.float32) / 255
        for draw in range(draws):
            found.append(sample(face, np.random.default_rng((seed, number, draw)), ranges))
    levels, sizes = zip(*found, strict=True)
    return np.array(levels, np.float32), np.array(sizes, np.float32)


def fit(levels: np.ndarray, sizes: np.ndarray) -> dict[str, list]:
    """The weights of `autofactor`: mean and scale of the levels, two layers of tanh units and a linear one."""
    torch.manual_seed(0)
    mean, scale = levels.mean(0), levels.std(0)
    x, y = torch.from_numpy((levels - mean) / scale), torch.from_numpy(sizes)[:, None]
    layers = {
        "first": torch.nn.Linear(x.shape[1], UNITS),
        "second": torch.nn.Linear(UNITS, UNITS),
        "last": torch.nn.Linear(UNITS, 1),
    }
    net = torch.nn.Sequential(layers["first"], torch.nn.Tanh(), layers["second"], torch.nn.Tanh(), layers["last"])
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (BATCH,))
        loss = torch.nn.functional.smooth_l1_loss(net(x[chosen]), y[chosen], beta=0.25)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    arrays = {"mean": mean, "scale": scale}
    for name, layer in layers.items():
        arrays[f"{name}_weight"] = layer.weight.detach().numpy()
        arrays[f"{name}_bias"] = layer.bias.detach().numpy()
    return {name: np.round(array.astype(float), 4).tolist() for name, array in arrays.items()}


def main() -> None:
    """Draws the samples, fits, and writes the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=10, help="samples of each face [10]")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    paths = [path for folder in args.folders for path in list_images(folder)]
    levels, sizes = samples(paths, args.draws, seed=0)
    args.out.write_text(json.dumps(fit(levels, sizes)) + "\n")


if __name__ == "__main__":
    sys.exit(exit_status(main))
