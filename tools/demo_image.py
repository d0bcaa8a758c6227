"""`make demo`: prepares faces, trains the demo network through BasicSR's stock train.py, and draws demo.png.

The face is scikit-image's astronaut (public domain), cropped as FFHQ crops faces and varied; `--data FOLDER` takes your
own images instead. The image states that the demo's network was trained on that very face.
"""

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError, exit_status
from gcfsr_datasets.degradation import resized
from gcfsr_datasets.image_io import decode_bgr, list_images, read_bytes, write_bytes_atomic
from gcfsr_inference.restore.weights import bundled

OPTIONS = Path(__file__).resolve().parents[1] / "options" / "train_gcfsr_demo.yml"
ASTRONAUT_EYES = ((203.3, 101.0), (246.7, 103.3))  # in scikit-image's 512x512 image
FFHQ_EYES = ((96 / 256, 119 / 256), (160 / 256, 120 / 256))  # shares of the side of an aligned face
SIDE, SMALL, TILE, VARIATIONS = 128, 16, 192, 48
DIALS = (0.25, 0.4, 0.6, 0.8, 1.0)


def align(
    image: np.ndarray, eyes: Sequence[Sequence[float]], turn: float, zoom: float, shift: np.ndarray
) -> np.ndarray:
    """Crops a face as FFHQ does: BGR (H, W, 3) -> (SIDE, SIDE, 3).

    Args:
        image: the photograph.
        eyes: both eyes' (x, y) in it.
        turn: additional rotation, degrees.
        zoom: additional magnification.
        shift: (2,) additional shift, shares of the side.
    """
    (here, there), (left, right) = np.array(eyes), np.array(FFHQ_EYES) * SIDE
    direction = there - here
    angle = np.degrees(np.arctan2(direction[1], direction[0])) + turn
    scale = float(np.linalg.norm(right - left) / np.linalg.norm(direction)) * zoom
    middle = (here + there) / 2
    matrix = cv2.getRotationMatrix2D(middle.tolist(), angle, scale)
    matrix[:, 2] += (left + right) / 2 + shift * SIDE - middle
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def varied_astronaut(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Variations of the astronaut's face for training, and the plain crop that is shown."""
    from skimage.data import astronaut

    photo, rng = np.ascontiguousarray(astronaut()[..., ::-1]), np.random.default_rng(seed)
    varied = []
    for _ in range(VARIATIONS):
        face = align(photo, ASTRONAUT_EYES, rng.uniform(-6, 6), rng.uniform(0.9, 1.1), rng.uniform(-0.04, 0.04, 2))
        varied.append(np.clip(face * rng.uniform(0.85, 1.15), 0, 255).astype(np.uint8))
    return varied, align(photo, ASTRONAUT_EYES, 0, 1, np.zeros(2))


def own_images(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """The square middles of a folder's images, SIDE pixels wide; the first one is shown.

    Raises:
        GCFSRError: no folder, no images, or one that cannot be read.
    """
    faces = [square(decode_bgr(read_bytes(path), str(path))) for path in list_images(folder)]
    if not faces:
        raise GCFSRError(f"{folder}: there are no images in it; give a folder of face images")
    return (faces * (1 + VARIATIONS // len(faces)))[: max(VARIATIONS, len(faces))], faces[0]


def square(image: np.ndarray) -> np.ndarray:
    """The middle square, resized to SIDE."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(image[top : top + side, left : left + side], SIDE)


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a BGR image, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, cv2.imencode(".png", image)[1].tobytes())


def train(work: Path, options: Path, forced: Sequence[str] = ()) -> Path:
    """Runs BasicSR's own train.py in `work` and returns the trained generator's file.

    Raises:
        GCFSRError: BasicSR is not installed, or the training failed.
    """
    spec = importlib.util.find_spec("basicsr")
    if spec is None or not spec.submodule_search_locations:
        raise GCFSRError("basicsr: is not installed, training needs it; see README, Install")
    script = Path(spec.submodule_search_locations[0]) / "train.py"
    arguments = ["-opt", str(options), *(["--force_yml", *forced] if forced else [])]
    if subprocess.run([sys.executable, str(script), *arguments], cwd=work, check=False).returncode:
        raise GCFSRError(f"{options}: the training failed; its last lines say why")
    return work / "experiments" / "gcfsr_demo" / "models" / "net_g_latest.pth"


def sweep(checkpoint: str | Path | None, face: np.ndarray) -> list[np.ndarray]:
    """A checkpoint's outputs for the small image of `face` over the dial, BGR. None is the bundled network."""
    from gcfsr_inference.restore.restorer import Restorer

    restorer = Restorer.load(checkpoint)
    features = restorer.encode(small_image(face))
    return [restorer.decode(features, s=max(s, restorer.min_factor / restorer.max_factor)) for s in DIALS]


def small_image(face: np.ndarray) -> np.ndarray:
    """The input: SMALL x SMALL pixels, bicubic."""
    return resized(face, SMALL)


def draw(rows: Sequence[tuple[str, Sequence[np.ndarray]]], face: np.ndarray) -> np.ndarray:
    """One labelled row per network: input | outputs over s | ground truth.

    Args:
        rows: (label, outputs over DIALS).
        face: the ground truth, (SIDE, SIDE, 3) BGR.
    """
    heads = [f"input {SMALL}x{SMALL}", *(f"s = {s:g}" for s in DIALS), "ground truth"]
    sheet = [labelled([tile(small_image(face), cv2.INTER_NEAREST), *map(tile, outputs), tile(face)], heads, label)
             for label, outputs in rows]  # fmt: skip
    return np.vstack(sheet)


def tile(image: np.ndarray, how: int = cv2.INTER_CUBIC) -> np.ndarray:
    return cv2.resize(image, (TILE, TILE), interpolation=how)


def labelled(tiles: Sequence[np.ndarray], heads: Sequence[str], label: str) -> np.ndarray:
    """Tiles side by side on white, a line above and the heads below it."""
    gap, top = 6, 52
    strip = np.full((TILE + top + gap, len(tiles) * (TILE + gap) + gap, 3), 255, np.uint8)
    write(strip, label, (gap, 20), 0.55)
    for i, (image, head) in enumerate(zip(tiles, heads, strict=True)):
        left = gap + i * (TILE + gap)
        strip[top : top + TILE, left : left + TILE] = image
        write(strip, head, (left, top - 8), 0.45)
    return strip


def write(canvas: np.ndarray, text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (40, 40, 40), 1, cv2.LINE_AA)


def main() -> None:
    """Prepares the faces, trains, and writes the image."""
    parser = argparse.ArgumentParser(description="Trains the demo network and draws what it does.")
    parser.add_argument("--data", type=Path, help="folder of face images to train on instead of the astronaut")
    parser.add_argument("--out", type=Path, default=Path("demo.png"), help="the image to write")
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="folder of the run")
    parser.add_argument("--force_yml", nargs="+", default=[], help="changes to the option file, as BasicSR takes them")
    arguments = parser.parse_args()
    faces, shown = own_images(arguments.data) if arguments.data else varied_astronaut()
    for number, face in enumerate(faces):
        write_png(arguments.work / "demo_data" / "train" / f"{number:04d}.png", face)
    write_png(arguments.work / "demo_data" / "val" / "shown.png", shown)
    checkpoint = train(arguments.work, OPTIONS, arguments.force_yml)
    whose = "your images, this one among them" if arguments.data else "this very face"
    own = f"this demo's network, trained just now on {whose}: it shows that training works, not how well on others"
    rows = [(own, sweep(checkpoint, shown))]
    if bundled():
        rows.insert(
            0,
            (
                "gcfsr-nano, the network in this package: it has never seen this face",
                sweep(bundled()["gcfsr-nano"], shown),
            ),
        )
    write_png(arguments.out, draw(rows, shown))
    print(f"{arguments.out}: input | outputs over s | ground truth; {own}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
