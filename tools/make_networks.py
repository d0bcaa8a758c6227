"""`make networks DATA=folder`: the whole way from a folder of aligned faces to the checkpoints in the package.

For each network: prepares the images at its size, holds some out, trains the stages of `options/train_gcfsr_*.yml`
through BasicSR's trainer, writes safetensors and measures them on the held-out images. What exists already is kept, so
the same command continues where it was stopped.
"""

import argparse
import fnmatch
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from export_network import export
from gcfsr_arch import GCFSR, load_generator, save_generator
from gcfsr_arch.errors import GCFSRError, exit_status
from gcfsr_arch.growth import grow
from gcfsr_datasets.balance import face_luminance
from gcfsr_datasets.degradation import resized
from gcfsr_datasets.image_io import list_images, read_image, write_bytes_atomic, write_image
from gcfsr_inference.commands.info import configuration_of_options
from gcfsr_inference.restore.weights import bundled

OPTIONS = Path(__file__).resolve().parents[1] / "options"
DEFAULT_RUNS = "~/.cache/gcfsr/runs"


@dataclass(frozen=True)
class Stage:
    """One training run: its option file, whose `name` it has, the stage it starts from, and what it gives."""

    options: str
    name: str
    start: str | None = None
    product: str | None = None


@dataclass(frozen=True)
class Network:
    """How one checkpoint is made: size in pixels, stages, factors to measure, the checkpoint it grows from."""

    size: int
    stages: tuple[Stage, ...]
    factors: str
    grows_from: str | None = None


NETWORKS = {
    "gcfsr-256": Network(
        256,
        (
            Stage("train_gcfsr_256_l1.yml", "gcfsr_256_l1"),
            Stage("train_gcfsr_256_dials.yml", "gcfsr_256_dials", "gcfsr_256_l1"),
            Stage("train_gcfsr_256.yml", "gcfsr_256", "gcfsr_256_dials", "gcfsr-256"),
        ),
        "4,8,16,32",
        grows_from="gcfsr-nano",
    ),
    "gcfsr-nano": Network(
        128,
        (
            Stage("train_gcfsr_nano_l1.yml", "gcfsr_nano_l1"),
            Stage("train_gcfsr_nano.yml", "gcfsr_nano", "gcfsr_nano_l1", "gcfsr-nano"),
        ),
        "2,4,8,16",
    ),
}


def prepare(
    data: Sequence[Path], folder: Path, size: int, hold: int, listed: Path | None, boosts: Sequence[tuple[str, int]]
) -> None:
    """Writes FOLDER/train and FOLDER/holdout (images of `size` pixels) and FOLDER/train.txt, the list to train by.

    Args:
        data: folders of square aligned faces. Images smaller than `size` are left out, with their number printed.
        folder: target; images that exist there are kept.
        size: side in pixels.
        hold: how many images are held out, evenly over the luminance of the face.
        listed: text file that names the held-out images instead, one per line.
        boosts: (pattern of names, how many lines such an image has in the list).

    Raises:
        GCFSRError: too few images, one that is not square, or a held-out name that does not exist.
    """
    images = [path for place in data for path in list_images(place)]
    copies = {path.stem: _copy(path, folder / "all", size) for path in images}
    fitting = {name: copy for name, copy in copies.items() if copy is not None}
    where = ", ".join(map(str, data))
    if left_out := len(copies) - len(fitting):
        print(f"{left_out} images are smaller than {size} pixels and left out")
    if len(fitting) <= hold:
        raise GCFSRError(
            f"{where}: {len(fitting)} images of {size} pixels; more than the {hold} to hold out are needed"
        )
    held = _listed(listed, fitting) if listed else evenly({n: luminance_of(p) for n, p in fitting.items()}, hold)
    for name, path in fitting.items():
        target = folder / ("holdout" if name in held else "train") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(path, target)
    lines = [fitting[name].name for name in sorted(fitting.keys() - held) for _ in range(times(name, boosts))]
    write_bytes_atomic(folder / "train.txt", ("\n".join(lines) + "\n").encode())
    print(f"{len(fitting) - len(held)} images to train on ({len(lines)} lines), {len(held)} held out: {folder}")


def _copy(path: Path, folder: Path, size: int) -> Path | None:
    """The image at `size` pixels, as PNG; the file as it is where it has that size; None where it is smaller."""
    target = folder / f"{path.stem}.png"
    if target.exists():
        return target
    image = read_image(path).bgr
    height, width = image.shape[:2]
    if height != width:
        raise GCFSRError(f"{path}: {width}x{height}; networks are trained on square aligned faces")
    if height < size:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    write_image(target, resized(image, size))
    return target


def luminance_of(path: Path) -> float:
    """Luminance of the face's middle, in [0, 1]."""
    return face_luminance(read_image(path).bgr)


def evenly(luminance: dict[str, float], count: int) -> set[str]:
    """`count` names at even steps of the row sorted by luminance: every skin tone is held out."""
    row = sorted(luminance, key=lambda name: (luminance[name], name))
    return {row[int((i + 0.5) * len(row) / count)] for i in range(count)}


def _listed(path: Path, known: dict[str, Path]) -> set[str]:
    if not path.is_file():
        raise GCFSRError(f"{path}: there is no such list of held-out images; --holdout names a text file")
    names = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    for name in sorted(names - known.keys()):
        raise GCFSRError(f"{path}: {name} is not among the images; use the list of the data it was made for")
    return names


def times(name: str, boosts: Sequence[tuple[str, int]]) -> int:
    """How many lines an image has in the list: the number of the first pattern that matches, else one."""
    return next((number for pattern, number in boosts if fnmatch.fnmatch(name, pattern)), 1)


def boost(text: str) -> tuple[str, int]:
    """Parses PATTERN=NUMBER."""
    pattern, _, number = text.rpartition("=")
    if not pattern or not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=NUMBER, for example 'real_*=8'")
    return pattern, int(number)


@dataclass(frozen=True)
class Paths:
    """Files and folders of one network's training."""

    data: Path  # of `prepare`
    runs: Path
    squeezenet: Path
    grown: Path | None  # what the first stage starts from
    valid: Path | None  # table of padding, see `gcfsr_datasets.valid_area`


def command(stage: Stage, paths: Paths, ranks: int, iters: int) -> list[str]:
    """The trainer's command line for a stage; `iters` 0 leaves the option file's number."""
    start = paths.runs / stage.start / "models" / "net_g_latest.pth" if stage.start else paths.grown
    force = [
        f"datasets:train:dataroot_gt={paths.data / 'train'}",
        f"datasets:train:meta_info_file={paths.data / 'train.txt'}",
        f"datasets:train:luminance_cache={paths.data / 'luminance.json'}",
        f"datasets:train:valid_corners={paths.valid or '~'}",
        f"path:experiments_root={paths.runs}",
        f"path:pretrain_network_g={start or '~'}",
    ]
    options = yaml.safe_load((OPTIONS / stage.options).read_text(encoding="utf-8"))
    if "network_d" in options:
        force += [f"network_d:weights={paths.squeezenet}", f"train:feature_opt:weights={paths.squeezenet}"]
    if iters:
        force += [f"train:total_iter={iters}"]
        schedule = options["train"]["scheduler"]
        force += [f"train:scheduler:periods=[{iters}]"] if "periods" in schedule else []
        force += [f"train:scheduler:decay={-(-iters // 2)}"] if "decay" in schedule else []
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    program = [*launch, "-m"] if ranks > 1 else [sys.executable, "-m"]
    spread = ["--launcher", "pytorch"] if ranks > 1 else []
    return [*program, "gcfsr_arch.train", "-opt", str(OPTIONS / stage.options), *spread, "--auto_resume",
            "--force_yml", *force]  # fmt: skip


def grown(name: str, options: Path, target: Path) -> Path:
    """A new network of an option file that starts from a bundled checkpoint's weights (see `gcfsr_arch.growth`)."""
    if not target.exists():
        torch.manual_seed(0)
        large = GCFSR(**configuration_of_options(str(options)))
        save_generator(grow(load_generator(bundled()[name]), large), target)
    return target


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
            raise GCFSRError(
                f"{stage.name}: the trainer stopped (status {done.returncode}); run the same command again to resume"
            )
    return latest


def squeezenet_file(given: str | None, folder: Path) -> Path:
    """The state dict of SqueezeNet 1.1: the given file, or torchvision's weights, fetched once into the folder."""
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise GCFSRError(f"{path}: no such file; --squeezenet names a squeezenet1_1 state dict")
        return path
    path = folder / "squeezenet1_1.pth"
    if not path.exists():
        from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

        try:
            net = squeezenet1_1(weights=SqueezeNet1_1_Weights.DEFAULT)
        except OSError as error:
            raise GCFSRError(
                f"--squeezenet: torchvision's weights could not be fetched ({error}); name a file"
            ) from error
        torch.save(net.state_dict(), path)
    return path


def make(name: str, args: argparse.Namespace) -> int:
    """Trains, writes and measures one network; returns the exit status."""
    network, runs = NETWORKS[name], Path(args.runs).expanduser().absolute()
    data = runs / f"data-{network.size}"
    prepare(args.data, data, network.size, args.hold, args.holdout, args.boost)
    first = OPTIONS / network.stages[0].options
    start = grown(network.grows_from, first, runs / f"{name}-grown.safetensors") if network.grows_from else None
    paths = Paths(data, runs, squeezenet_file(args.squeezenet, runs), start, args.valid and args.valid.absolute())
    for stage in network.stages:
        latest = train(stage, command(stage, paths, args.ranks, args.iters), runs)
        if stage.product:
            target = runs / f"{stage.product}.safetensors"
            export(latest, OPTIONS / stage.options, target, {"training_data": ", ".join(p.name for p in args.data)})
            print(f"written: {target}")
    measure = [
        "evaluate",
        "--gt",
        str(data / "holdout"),
        "--factors",
        network.factors,
        "--out",
        str(runs / f"report-{name}"),
    ]
    methods = ["--method", "bicubic", "--method", "lanczos", "--method", f"{name}={runs / f'{name}.safetensors'}"]
    return subprocess.run([sys.executable, "-m", "gcfsr_inference.cli", *measure, *methods], check=False).returncode


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make_networks", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--data", required=True, type=Path, nargs="+", help="folders of square aligned faces, FFHQ for example")
    add("--network", action="append", choices=list(NETWORKS), help="make only this one; repeatable [all]")
    add("--runs", default=DEFAULT_RUNS, help=f"folder of the runs, outside the work tree [{DEFAULT_RUNS}]")
    add("--hold", type=int, default=100, help="images held out for measuring [100]")
    add("--holdout", type=Path, help="text file with the names of the held-out images instead")
    add("--valid", type=Path, help="table of the corners of images with padding, which is left out of the losses")
    add("--boost", type=boost, action="append", default=[], metavar="PATTERN=N", help="such images N times as often")
    add("--squeezenet", help="squeezenet1_1 state dict [torchvision's own, fetched]")
    add("--ranks", type=int, default=min(2, os.cpu_count() or 1), help="processes that train together [2]")
    add("--iters", type=int, default=0, metavar="N", help="iterations of each stage [those of its option file]")
    return parser


def run(argv: Sequence[str] | None = None) -> int:
    """Makes the networks one after another; returns the exit status."""
    args = build_parser().parse_args(argv)
    for name in args.network or NETWORKS:
        if status := make(name, args):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(run))
