"""`make nano DATA=folder`: the whole way from a folder of aligned faces to gcfsr-nano and gcfsr-nano-blind.

Prepares a 128-pixel copy, holds some pictures out, trains the three stages of `options/train_gcfsr_nano*.yml` through
BasicSR's trainer, writes safetensors and measures them on the held-out pictures. What is there already is kept, so the
same command goes on where it was stopped.
"""

import argparse
import fnmatch
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.checkpoint import fit, read_state
from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.balance import face_luminance
from gcfsr_datasets.image_io import list_images, read_image, write_bytes_atomic, write_image
from gcfsr_datasets.resize import resize

SIZE = 128
OPTIONS = Path(__file__).resolve().parents[1] / "options"
DEFAULT_RUNS = "~/.cache/gcfsr/runs/nano"


@dataclass(frozen=True)
class Stage:
    """One training run: its option file, whose `name` it bears, the stage it starts from, and what it gives."""

    options: str
    name: str
    start: str | None = None
    product: str | None = None


STAGES = (
    Stage("train_gcfsr_nano_l1.yml", "gcfsr_nano_l1"),
    Stage("train_gcfsr_nano.yml", "gcfsr_nano", "gcfsr_nano_l1", "gcfsr-nano"),
    Stage("train_gcfsr_nano_blind.yml", "gcfsr_nano_blind", "gcfsr_nano", "gcfsr-nano-blind"),
)


def prepare(data: Path, folder: Path, hold: int, listed: Path | None, boosts: Sequence[tuple[str, int]]) -> None:
    """Writes FOLDER/train and FOLDER/holdout (128-pixel PNG) and FOLDER/train.txt, the list that training reads.

    Args:
        data: square aligned faces of at least 128 pixels.
        folder: target; pictures that are there are kept.
        hold: how many pictures are held out, evenly over the luminance of the face.
        listed: text file that names the held-out pictures instead, one a line.
        boosts: (pattern of names, how often such a picture stands in the list).

    Raises:
        GCFSRError: no pictures, one that is not square or too small, or a held-out name that is not there.
    """
    small = {path.stem: _small_copy(path, folder / "all") for path in list_images(data)}
    if len(small) <= hold:
        raise GCFSRError(f"{data}: {len(small)} pictures; more than the {hold} to be held out are needed")
    held = _listed(listed, small) if listed else evenly({n: luminance_of(p) for n, p in small.items()}, hold)
    for name, path in small.items():
        target = folder / ("holdout" if name in held else "train") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(path, target)
    lines = [f"{name}.png" for name in sorted(small.keys() - held) for _ in range(times(name, boosts))]
    write_bytes_atomic(folder / "train.txt", ("\n".join(lines) + "\n").encode())
    print(f"{len(small) - len(held)} pictures to train on ({len(lines)} lines), {len(held)} held out: {folder}")


def _small_copy(path: Path, folder: Path) -> Path:
    target = folder / f"{path.stem}.png"
    if target.exists():
        return target
    picture = read_image(path).bgr
    height, width = picture.shape[:2]
    if height != width or height < SIZE:
        raise GCFSRError(f"{path}: {width}x{height}; nano is trained on square aligned faces of at least {SIZE} pixels")
    top = np.iinfo(picture.dtype).max
    small = np.clip(resize(picture.astype(np.float32) / top, (SIZE, SIZE)), 0, 1)
    folder.mkdir(parents=True, exist_ok=True)
    write_image(target, np.rint(small * 255).astype(np.uint8))
    return target


def luminance_of(path: Path) -> float:
    """Luminance of the face's middle, in [0, 1]."""
    return face_luminance(read_image(path).bgr)


def evenly(luminance: dict[str, float], count: int) -> set[str]:
    """`count` names that stand evenly in the row sorted by luminance: every skin tone is held out."""
    row = sorted(luminance, key=lambda name: (luminance[name], name))
    return {row[int((i + 0.5) * len(row) / count)] for i in range(count)}


def _listed(path: Path, known: dict[str, Path]) -> set[str]:
    if not path.is_file():
        raise GCFSRError(f"{path}: there is no such list of held-out pictures; --holdout names a text file")
    names = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    for name in sorted(names - known.keys()):
        raise GCFSRError(f"{path}: {name} is not among the pictures; use the list of the data it was made for")
    return names


def times(name: str, boosts: Sequence[tuple[str, int]]) -> int:
    """How often a picture stands in the list: the number of the first pattern that fits, else once."""
    return next((number for pattern, number in boosts if fnmatch.fnmatch(name, pattern)), 1)


def boost(text: str) -> tuple[str, int]:
    """Parses PATTERN=NUMBER."""
    pattern, _, number = text.rpartition("=")
    if not pattern or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=NUMBER, for example 'real_*=8'")
    return pattern, int(number)


def command(stage: Stage, options: Path, data: Path, runs: Path, squeezenet: Path, ranks: int, iters: int) -> list[str]:
    """The trainer's command line for a stage; `iters` 0 leaves the option file's number."""
    force = [
        f"datasets:train:dataroot_gt={data / 'train'}",
        f"datasets:train:meta_info_file={data / 'train.txt'}",
        f"datasets:train:luminance_cache={data / 'luminance.json'}",
        f"path:experiments_root={runs}",
    ]
    if stage.start:
        force += [
            f"path:pretrain_network_g={runs / stage.start / 'models' / 'net_g_latest.pth'}",
            f"network_d:weights={squeezenet}",
            f"train:feature_opt:weights={squeezenet}",
        ]
    if iters:
        force += [f"train:total_iter={iters}", f"train:scheduler:periods=[{iters}]"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    program = [*launch, "-m"] if ranks > 1 else [sys.executable, "-m"]
    spread = ["--launcher", "pytorch"] if ranks > 1 else []
    return [*program, "gcfsr_arch.train", "-opt", str(options / stage.options), *spread, "--auto_resume",
            "--force_yml", *force]  # fmt: skip


def train(stage: Stage, arguments: list[str], runs: Path) -> Path:
    """Runs a stage unless its last network is there; returns that network's file.

    Raises:
        GCFSRError: it stopped with an error.
    """
    latest = runs / stage.name / "models" / "net_g_latest.pth"
    if not latest.exists():
        print(f"stage {stage.name}", flush=True)
        one_thread = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        done = subprocess.run(arguments, env=one_thread, check=False)
        if done.returncode or not latest.exists():
            raise GCFSRError(f"{stage.name}: the trainer stopped (status {done.returncode}); the same command goes on")
    return latest


def export(checkpoint: Path, options: Path, target: Path, extra: dict[str, str]) -> None:
    """Writes the moving average of a trainer's checkpoint as safetensors in half precision.

    Args:
        checkpoint: the trainer's net_g_*.pth.
        options: the option file it was trained by; its `network_g` goes into the metadata.
        target: the file to write.
        extra: further metadata: licence, training data.
    """
    network = yaml.safe_load(options.read_text(encoding="utf-8"))["network_g"]
    net = GCFSR(**{key: value for key, value in network.items() if key != "type"})
    fit(net, read_state(checkpoint)[0], checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_generator(net, target, half=True, extra=extra)


def squeezenet_file(given: str | None, folder: Path) -> Path:
    """The state dict of SqueezeNet 1.1: the given file, or torchvision's weights, fetched once into the folder."""
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise GCFSRError(f"{path}: there is no such file; --squeezenet names a squeezenet1_1 state dict")
        return path
    path = folder / "squeezenet1_1.pth"
    if not path.exists():
        import torch
        from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

        try:
            net = squeezenet1_1(weights=SqueezeNet1_1_Weights.DEFAULT)
        except OSError as error:
            raise GCFSRError(f"--squeezenet: torchvision's weights cannot be fetched ({error}); name a file") from error
        torch.save(net.state_dict(), path)
    return path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make_nano", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--data", required=True, type=Path, help="folder of square aligned faces, FFHQ for example")
    add("--runs", default=DEFAULT_RUNS, help=f"folder of the runs, outside the work tree [{DEFAULT_RUNS}]")
    add("--hold", type=int, default=100, help="pictures held out for measuring [100]")
    add("--holdout", type=Path, help="text file with the names of the held-out pictures instead")
    add("--boost", type=boost, action="append", default=[], metavar="PATTERN=N", help="such pictures N times as often")
    add("--squeezenet", help="squeezenet1_1 state dict [torchvision's own, fetched]")
    add("--ranks", type=int, default=min(2, os.cpu_count() or 1), help="processes that train together [2]")
    add("--iters", type=int, nargs=3, default=[0, 0, 0], metavar="N", help="iterations of the stages [option files']")
    return parser


def run(argv: Sequence[str] | None = None) -> int:
    """Does it all; returns the exit status."""
    args = build_parser().parse_args(argv)
    runs, data = (Path(args.runs).expanduser().absolute() / part for part in (".", "data"))
    prepare(args.data, data, args.hold, args.holdout, args.boost)
    squeezenet = squeezenet_file(args.squeezenet, runs)
    for stage, iters in zip(STAGES, args.iters, strict=True):
        latest = train(stage, command(stage, OPTIONS, data, runs, squeezenet, args.ranks, iters), runs)
        if stage.product:
            target = runs / f"{stage.product}.safetensors"
            export(latest, OPTIONS / stage.options, target, {"training_data": args.data.name})
            print(f"written: {target}")
    nano = runs / "gcfsr-nano.safetensors"
    measure = ["evaluate", "--truth", str(data / "holdout"), "--factors", "2,4,8,16", "--out", str(runs / "report")]
    methods = ["--method", "bicubic", "--method", "lanczos", "--method", f"gcfsr-nano={nano}"]
    return subprocess.run([sys.executable, "-m", "gcfsr_inference.cli", *measure, *methods], check=False).returncode


def main() -> int:
    """`python tools/make_nano.py`. Prints user errors on one line; returns the exit status, 2 for those."""
    try:
        return run()
    except GCFSRError as error:
        print(f"gcfsr: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
