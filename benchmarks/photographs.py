"""Does the plain command help on whole photographs? `python benchmarks/photographs.py PHOTOS --embedding FILE.onnx`.

Each photograph of the folder is brought to a largest face of `--face` pixels and cropped to a multiple of 12 (the
original), reduced by area by 2, 3 and 4, clean and worn, and restored by `gcfsr restore -s REDUCTION`, with no option
but the network's name. The faces, aligned by the original's landmarks, are compared with the original's and with the
same enlargement without restoration. The bicubic enlargement of the same reduction is listed beside it. Nothing is
timed. FILE.onnx is MobileFaceNet, or another embedding that takes 112 x 112 pixels.
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from timing import table

from gcfsr_datasets.degradation.photograph import Wear, wear_out
from gcfsr_datasets.image_io import list_images, read_image
from gcfsr_inference.cli import main as gcfsr
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.detect.turned import find
from gcfsr_inference.photo.paste import align, crop_face, soft_mask
from gcfsr_inference.restore.weights import DEFAULT_NAME
from gcfsr_measure.measures import Case, onnx_cosine
from gcfsr_measure.pixels import psnr, sharpness

REDUCTIONS = (2, 3, 4)
MULTIPLE = 12
SIDE = 256  # pixels of the aligned faces that are compared
WEARS = {
    "clean": Wear(),
    "noise": Wear(noise=6 / 255),
    "JPEG": Wear(quality=60),
    "blur": Wear(sigma=(1.0, 1.0)),
    "worn": Wear(noise=6 / 255, quality=60),
}
COLUMNS = ("psnr", "cosine", "sharpness", "seam", "colour")


def original(path: Path, face: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """The photograph with a largest face of at most `face` pixels, and the alignments (2, 3) of its faces."""
    image, detector = read_image(path).bgr, build_detector("yunet")
    largest = max((found.size for found in find(image, detector)), default=face)
    if largest > face:
        ratio = face / largest
        image = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    height, width = (side // MULTIPLE * MULTIPLE for side in image.shape[:2])
    image = np.ascontiguousarray(image[:height, :width])
    return image, [align(found.landmarks, SIDE) for found in find(image, detector) if found.confirmed]


def reduced(image: np.ndarray, reduction: int, wear: Wear) -> np.ndarray:
    """An exact reduction by area, worn; uint8."""
    size = image.shape[1] // reduction, image.shape[0] // reduction
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return (wear_out(small, wear, np.random.default_rng(reduction)) * 255).round().astype(np.uint8)


def restored(folder: Path, reduction: int, checkpoint: str, extra: Sequence[str]) -> dict[str, Any]:
    """What one plain command makes of a folder: by name the image and its faces' entries in the sidecar."""
    with tempfile.TemporaryDirectory() as out:
        words = ["restore", "-i", str(folder), "-o", out, "-s", str(reduction), "-v", checkpoint, "--sidecar", *extra]
        with contextlib.redirect_stdout(io.StringIO()):
            if gcfsr(words):
                raise SystemExit(f"gcfsr {' '.join(words)}: failed")
        results = Path(out) / "restored_imgs"
        return {
            path.stem: (cv2.imread(str(path)), json.loads(path.with_suffix(".json").read_text())["faces"])
            for path in results.glob("*.png")
        }


def compare(result: np.ndarray, gt: np.ndarray, cosine: Any) -> dict[str, float]:
    """One aligned face (256, 256, 3) against the original's.

    Returns:
        psnr in dB; cosine of the embeddings; sharpness, result over original; seam: gradient in the mask's soft edge
        over that inside, result over original; colour: largest difference of the mean channels inside, of 255.
    """
    inside = soft_mask(SIDE) == 1
    edge = (soft_mask(SIDE) > 0.02) & ~inside
    slopes = []
    for image in (result, gt):
        luma = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
        slope = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
        slopes.append(slope[edge].mean() / slope[inside].mean())
    return {
        "psnr": psnr(result, gt),
        "cosine": cosine([Case(gt, result, gt)])[0],
        "sharpness": sharpness(result) / sharpness(gt),
        "seam": float(slopes[0] / slopes[1]),
        "colour": float(np.abs(result[inside].mean(0) - gt[inside].mean(0)).max()),
    }


def status_of(matrix: np.ndarray, faces: Iterable[dict[str, Any]], reduction: int) -> str:
    """What the command did to the face of an alignment: that of the entry whose landmarks lie nearest."""
    target = np.array([0.5, 0.6]) * SIDE
    distances = {
        np.linalg.norm((np.mean(face["landmarks"], axis=0) * reduction) @ matrix[:, :2].T + matrix[:, 2] - target): face
        for face in faces
    }
    nearest = min(distances, default=np.inf)
    return distances[nearest]["status"] if nearest < SIDE / 4 else "not found"


def measure(photographs: dict[str, Any], reduction: int, wear: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every face of every photograph under every method, for one reduction and wear."""
    cosine, rows = onnx_cosine(args.embedding, "cpu"), []
    with tempfile.TemporaryDirectory() as folder:
        for name, (image, _) in photographs.items():
            cv2.imwrite(str(Path(folder) / f"{name}.png"), reduced(image, reduction, WEARS[wear]))
        runs = {name: restored(Path(folder), reduction, name, args.options) for name in args.checkpoints}
        for name, (image, matrices) in photographs.items():
            small = cv2.imread(str(Path(folder) / f"{name}.png"))
            size = image.shape[1::-1]
            enlarged = {
                "input": (cv2.resize(small, size, interpolation=cv2.INTER_LANCZOS4), []),
                "bicubic": (cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), []),
            }
            for method, (result, faces) in {**enlarged, **{run: found[name] for run, found in runs.items()}}.items():
                for number, matrix in enumerate(matrices):
                    pair = crop_face(result, matrix, SIDE), crop_face(image, matrix, SIDE)
                    found = status_of(matrix, faces, reduction) if method in runs else "enlarged"
                    rows.append({
                        "photograph": name, "face": number, "reduction": reduction, "wear": wear, "method": method,
                        "status": found, **compare(*pair, cosine),
                    })  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]], checkpoints: Sequence[str]) -> str:
    """Markdown: for each reduction, wear and method the means; gains over the input, the worst face, and who lost."""
    head = ["reduced by", "method", *COLUMNS, "restored", "gain, dB", "gain, cosine", "worst cosine", "lost cosine"]
    lines = [head]
    for case in dict.fromkeys((row["reduction"], row["wear"]) for row in rows):
        group = [row for row in rows if (row["reduction"], row["wear"]) == case]
        before = {(row["photograph"], row["face"]): row for row in group if row["method"] == "input"}
        for method in ("bicubic", *checkpoints):
            mine = [row for row in group if row["method"] == method]
            gains = {
                key: np.array([row[key] - before[row["photograph"], row["face"]][key] for row in mine])
                for key in ("psnr", "cosine")
            }
            means = [f"{np.mean([row[key] for row in mine]):.2f}" for key in COLUMNS]
            done = sum(row["status"] == "restored" for row in mine)
            tail = [
                f"{done} of {len(mine)}", f"{gains['psnr'].mean():+.2f}", f"{gains['cosine'].mean():+.3f}",
                f"{gains['cosine'].min():+.3f}", str(int((gains["cosine"] < -1e-3).sum())),
            ]  # fmt: skip
            lines.append([f"{case[0]}, {case[1]}", method, *means, *tail])
    return table(lines)


def main() -> None:
    """Prints the table in Markdown and stores every face's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--embedding", type=Path, required=True, help="MobileFaceNet.onnx")
    parser.add_argument("--checkpoints", nargs="+", default=[DEFAULT_NAME], help="files or names [the default]")
    parser.add_argument("--options", default="", type=str.split, help="further options of `gcfsr restore`, in one word")
    parser.add_argument("--reductions", nargs="+", type=int, default=list(REDUCTIONS))
    parser.add_argument("--wears", nargs="+", default=list(WEARS), choices=list(WEARS))
    parser.add_argument("--face", type=float, default=150.0, help="the largest face's box in pixels [150]")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth photograph [1]")
    parser.add_argument("--apart", default="", help="a second table leaves out photographs with this in their name")
    parser.add_argument("--out", type=Path, help="JSON")
    args = parser.parse_args()
    if any(MULTIPLE % reduction for reduction in args.reductions):
        parser.error(f"--reductions: divisors of {MULTIPLE}, so that every size is an exact multiple")
    paths = list_images(args.photographs)[:: args.every]
    photographs = {path.stem: original(path, args.face) for path in paths}
    rows = [
        row
        for wear in args.wears
        for reduction in args.reductions
        for row in measure(photographs, reduction, wear, args)
    ]
    print(f"{len(photographs)} photographs, {sum(len(m) for _, m in photographs.values())} faces.\n")
    print(summary(rows, args.checkpoints))
    if args.apart:
        print(f"\nWithout {args.apart}:\n")
        print(summary([row for row in rows if args.apart not in row["photograph"]], args.checkpoints))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
