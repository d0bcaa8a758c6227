"""What checkpoints do to faces as photographs show them, clean and worn: gains over the input, by factor.

    python benchmarks/worn_faces.py FACES --checkpoints gcfsr-256 gcfsr-nano --embedding MobileFaceNet.onnx
    python benchmarks/worn_faces.py FACES --inputs exact worn --factors 4 8 16 --every 8 --embedding MobileFaceNet.onnx

Every face is turned by 6 degrees, reduced by area, worn (a light blur, noise of sigma 6, JPEG 60) or not, and aligned
again. `exact` is the paper's bicubic reduction instead; with `worn` it compares networks in the training log. The dial
is set to the true factor; a checkpoint that serves no such factor takes its nearest. All results are brought to the
ground truth's size. Colours are not matched: the table shows what the network itself does to them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcfsr import Restorer
from gcfsr_datasets.degradation import degrade_multi_factor, resized, to_uint8
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_inference.restore.dial import clip_factor
from gcfsr_measure.catalogue import measure_of
from gcfsr_measure.measures import Case, Measure
from gcfsr_measure.pixels import psnr, sharpness
from gcfsr_measure.statistics import bootstrap_interval

WEARS = {"exact": None, "clean": Wear(), "worn": Wear(sigma=(0.6, 0.6), noise=6 / 255, quality=60)}
SKIN = slice(80, 180)  # rows and columns of the middle of an aligned face of 256 pixels
SIDE = 256


def degraded(face: np.ndarray, factor: float, wear: Wear | None, number: int) -> np.ndarray:
    """The network's input (256, 256, 3) BGR uint8.

    Args:
        face: (256, 256, 3) BGR uint8.
        factor: of the reduction.
        wear: of the reduced image; None for the paper's bicubic reduction, which draws nothing.
        number: seed of the draws.
    """
    image = face.astype(np.float32) / 255
    if wear is None:
        return to_uint8(degrade_multi_factor(image, factor, quantize=True))
    draw = Photograph(6.0, (0.3, 0.7), "area", "bicubic", 1.0, wear)
    return to_uint8(apply_photograph(image, factor, draw, np.random.default_rng(number)))


def rows(
    restorer: Restorer, faces: Sequence[np.ndarray], factor: float, wear: Wear | None, cosine: Measure
) -> np.ndarray:
    """Per face: gains in PSNR (dB) and cosine, sharpness over the ground truth's, shift of the skin's colour (of 255).

    Args:
        restorer: the checkpoint.
        faces: (256, 256, 3) BGR uint8.
        factor: of the reduction.
        wear: of the reduced image; None for the bicubic reduction.
        cosine: similarity to the ground truth.
    """
    found = []
    for number, face in enumerate(faces):
        given = degraded(face, factor, wear, number)
        dial = "auto" if restorer.blind else clip_factor(factor * restorer.out_size / SIDE, restorer)
        result = resized(restorer.restore(resized(given, restorer.out_size), dial), SIDE)
        restored, before = (float(v) for v in cosine([Case(face, x, given) for x in (result, given)]))  # type: ignore[arg-type]
        shift = np.abs(result[SKIN, SKIN].mean((0, 1)) - given[SKIN, SKIN].mean((0, 1))).max()
        gain = psnr(result, face) - psnr(given, face)
        found.append((gain, restored - before, sharpness(result) / sharpness(face), shift))
    return np.array(found)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path, help="folder of aligned faces of 256 pixels")
    parser.add_argument("--checkpoints", nargs="+", default=["gcfsr-256", "gcfsr-nano"])
    parser.add_argument("--factors", type=float, nargs="+", default=[2.0, 4.0, 8.0, 16.0])
    parser.add_argument("--inputs", nargs="+", choices=WEARS, default=["clean", "worn"])
    parser.add_argument("--every", type=int, default=1, help="take every Nth face [1]")
    parser.add_argument("--embedding", type=Path, required=True, help="MobileFaceNet.onnx")
    args = parser.parse_args()
    faces = [resized(read_image(file).bgr, SIDE) for file in list_images(args.faces)[:: args.every]]
    cosine = measure_of("mobilefacenet", args.embedding, "cpu")
    print(f"{len(faces)} faces; means, in brackets 95% bootstrap intervals over faces.\n")
    print("| input | checkpoint | PSNR, dB | faces that lose PSNR | cosine | sharpness | colour, of 255 |")
    print("|---|---|---|---|---|---|---|")
    for name in args.inputs:
        for factor in args.factors:
            for checkpoint in args.checkpoints:
                table = rows(Restorer.load(checkpoint), faces, factor, WEARS[name], cosine)
                low, high = bootstrap_interval(table[:, 0]) or (np.nan, np.nan)
                gain, likeness, sharp, shift = table.mean(0)
                lost = int((table[:, 0] < 0).sum())
                print(
                    f"| {name} /{factor:g} | {checkpoint} | {gain:+.2f} [{low:+.2f}, {high:+.2f}] | {lost} "
                    f"| {likeness:+.3f} | {sharp:.2f} | {shift:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
