"""Trains the adversarial stage for some minutes on a borrowed GPU, from one file of faces; run again, it continues.

    python tools/train_on_gpu.py pack FACES --size 128 --out faces.npz
    python tools/train_on_gpu.py train --minutes 10 --data faces.npz --start NETWORK --squeezenet squeezenet1_1.pth

`pack` brings the faces of a folder to one size and writes them as one array, (N, S, S, 3) uint8 BGR, of at most 64 MiB:
1,365 faces at 128 pixels or 341 at 256, drawn at random where there are more. `train` runs the normal trainer with the
option file of gcfsr-256 on them, in bf16 where the device has it, and asks it to stop and save when the time is up.
It needs the extra `optimizers`. What is in `--runs` is continued: copy that folder back, and pass it again.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError, exit_status
from gcfsr_datasets.degradation import resized
from gcfsr_datasets.image_io import decode_bgr, list_images, read_file

LIMIT = 64 << 20  # bytes of the array
OPTIONS = Path(__file__).resolve().parents[1] / "options" / "train_gcfsr_256.yml"


def pack(folder: Path, size: int, out: Path, limit: int = LIMIT) -> int:
    """Writes at most `limit` bytes of the folder's faces at size x size; returns how many.

    Raises:
        GCFSRError: the folder has no images, or one of them cannot be read.
    """
    paths = list_images(folder)
    chosen = np.random.default_rng(0).permutation(len(paths))[: limit // (3 * size * size)]
    faces = np.empty((len(chosen), size, size, 3), np.uint8)
    for face, index in zip(faces, sorted(chosen), strict=True):
        face[...] = resized(decode_bgr(read_file(paths[index]), str(paths[index])), size)
    np.savez(out, faces=faces)
    return len(faces)


def unpack(data: Path, folder: Path) -> int:
    """Writes the faces of `pack` as PNG files into the folder; returns their size in pixels.

    Raises:
        GCFSRError: the file is not what `pack` writes.
    """
    try:
        with zipfile.ZipFile(data) as archive:
            bounded = sum(entry.file_size for entry in archive.infolist()) <= LIMIT + 4096
        with np.load(data, allow_pickle=False) as arrays:
            faces: np.ndarray = arrays["faces"] if bounded else np.empty(0)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise GCFSRError(f"--data {data}: is not a file of `train_on_gpu.py pack` ({error})") from error
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1] != faces.shape[2] or faces.shape[3] != 3:
        raise GCFSRError(f"--data {data}: `faces` must be (N, S, S, 3) uint8 of at most 64 MiB")
    for number, face in enumerate(faces):
        cv2.imwrite(str(folder / f"{number:05d}.png"), face)
    return faces.shape[1]


def command(args: argparse.Namespace, faces: Path, size: int) -> list[str]:
    """The trainer's command line."""
    force = [
        f"num_gpu={args.num_gpu}", f"datasets:train:dataroot_gt={faces}", "datasets:train:meta_info_file=~",
        "datasets:train:valid_corners=~", f"datasets:train:luminance_cache={faces / 'luminance.json'}",
        f"datasets:train:out_size={size}", f"network_g:out_size={size}",
        f"datasets:train:batch_size_per_gpu={args.batch}", f"datasets:train:num_worker_per_gpu={args.workers}",
        f"network_d:weights={args.squeezenet}",
        f"train:feature_opt:weights={args.squeezenet}", f"path:pretrain_network_g={args.start}",
        f"path:experiments_root={args.runs}", *args.force_yml,
    ]  # fmt: skip
    return [sys.executable, "-m", "gcfsr_arch.train", "-opt", str(args.opt), "--auto_resume", "--force_yml", *force]


def train(args: argparse.Namespace) -> int:
    """Trains for `args.minutes`; returns 0, or the trainer's status where it stopped by itself with an error."""
    with tempfile.TemporaryDirectory() as folder:
        size = unpack(args.data, Path(folder))
        trainer = subprocess.Popen(command(args, Path(folder), size))
        try:
            return trainer.wait(60 * args.minutes)
        except subprocess.TimeoutExpired:
            trainer.send_signal(signal.SIGTERM)  # it finishes the iteration and saves
            status = trainer.wait()
            return 0 if status == 128 + signal.SIGTERM else status
        finally:
            if trainer.poll() is None:
                trainer.terminate()
                trainer.wait()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="faces of a folder as one file")
    packing.add_argument("folder", type=Path, help="folder of square face images")
    packing.add_argument("--size", type=int, default=128, help="side in pixels [128]")
    packing.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    training = commands.add_parser("train", help="train for some minutes")
    training.add_argument("--minutes", type=float, default=10, help="time from the trainer's start [10]")
    training.add_argument("--data", type=Path, required=True, help="file of `pack`")
    training.add_argument("--start", required=True, help="weights to start from, where --runs has none; ~ for none")
    training.add_argument("--squeezenet", required=True, help="state dict of torchvision's squeezenet1_1")
    training.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs, continued if there [runs]")
    training.add_argument("--opt", type=Path, default=OPTIONS, help="option file [that of gcfsr-256]")
    training.add_argument("--batch", type=int, default=32, help="faces in a batch [32]")
    training.add_argument("--workers", type=int, default=8, help="worker processes [8]")
    training.add_argument("--num-gpu", default="1", help="1, or 0 for a trial on the CPU [1]")
    training.add_argument("--force_yml", nargs="+", default=[], help="further changes of the option file")
    args = parser.parse_args(argv)
    if args.command == "train":
        return train(args)
    print(f"{pack(args.folder, args.size, args.out)} faces in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
