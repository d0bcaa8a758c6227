"""Every metric of `gcfsr evaluate`: its name, what it needs, and how it is made from weights that are at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation import measures
from gcfsr_inference.evaluation.measures import Measure
from gcfsr_inference.restore.weights import DEFAULT_FOLDER, user_folders

TORCHVISION = "https://download.pytorch.org/models/"
FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.1.0/"


@dataclass(frozen=True)
class Entry:
    """A metric as the reports know it.

    Attributes:
        name: what the tables say; a stand-in never bears a standard metric's name.
        higher: True when higher is better.
        digits: decimals shown.
        make: builds the measure from (weights path or None, device).
        weights: file name of the weights, None when there are none.
        url: where the package itself downloads that file, None when it has no download.
        also: another name the same file is known by.
        packages: import names that must be there.
        of_set: True for a distance between sets (no value per picture).
        undefined: when a picture has no value.
        note: what a reader must know.
    """

    name: str
    higher: bool
    digits: int
    make: Callable[[Path | None, str], Measure]
    weights: str | None = None
    url: str | None = None
    also: str = ""
    packages: tuple[str, ...] = ()
    of_set: bool = False
    undefined: str = ""
    note: str = ""


SMALL_SSIM = "a side is below 11 pixels"
ENTRIES: dict[str, Entry] = {
    "psnr": Entry("PSNR (RGB)", True, 2, measures.psnr_rgb, note="dB, all three channels at once, as BasicSR has it"),
    "ssim": Entry("SSIM (RGB)", True, 4, measures.ssim_rgb, undefined=SMALL_SSIM, note="mean over R, G and B"),
    "psnr-y": Entry("PSNR (Y)", True, 2, measures.psnr_y, note="dB, Y of YCbCr (BT.601)"),
    "ssim-y": Entry("SSIM (Y)", True, 4, measures.ssim_y, undefined=SMALL_SSIM, note="Y of YCbCr (BT.601)"),
    "lpips": Entry(
        "LPIPS (alex)", False, 4, partial(measures.lpips, net="alex"), "alexnet-owt-7be5be79.pth",
        TORCHVISION + "alexnet-owt-7be5be79.pth", packages=("lpips",), note="lpips 0.1",
    ),
    "lpips-vgg": Entry(
        "LPIPS (vgg)", False, 4, partial(measures.lpips, net="vgg"), "vgg16-397923af.pth",
        TORCHVISION + "vgg16-397923af.pth", packages=("lpips",), note="lpips 0.1",
    ),
    "niqe": Entry(
        "NIQE", False, 2, measures.naturalness, packages=("basicsr",),
        undefined="the picture is flat or holds fewer than two blocks of 96x96", note="BasicSR's, on Y; no reference",
    ),
    "fid": Entry(
        "FID", False, 2, measures.inception, "pt_inception-2015-12-05-6726825d.pth",
        FIDELITY + "weights-inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth",
        ("torch_fidelity",), of_set=True,
        note="Inception pool3 by torch-fidelity, resized as TensorFlow 1 does",
    ),
    "arcface": Entry(
        "ArcFace cosine", True, 4, measures.arcface, "recognition_arcface_ir_se50.pth",
        FACEXLIB + "recognition_arcface_ir_se50.pth", packages=("facexlib",),
        note="facexlib's IR-SE 50; faces must be aligned as FFHQ's are",
    ),
    "consistency": Entry(
        "LR consistency", True, 2, measures.lr_consistency, undefined="the blind degradation cannot be done again",
        note="PSNR in dB between the result, downscaled again, and the input",
    ),
    "sharpness": Entry(
        "Sharpness match", True, 3, measures.sharpness_match, undefined="both pictures are flat",
        note="variance of the Laplacian of Y, the smaller over the larger of result and truth",
    ),
    "mobilefacenet": Entry(
        "MobileFaceNet cosine", True, 4, partial(measures.onnx_cosine, norm="imagenet"), "MobileFaceNet.onnx",
        packages=("onnxruntime",), note="a stand-in: not the paper's ArcFace; faces must be aligned as FFHQ's are",
    ),
    "squeezenet": Entry(
        "SqueezeNet feature distance", False, 4, measures.squeezenet,
        "squeezenet1_1_caffe_torchvision_layout.pth",
        note="a stand-in: SqueezeNet 1.1 features without learned heads, not LPIPS",
    ),
    "lite0": Entry(
        "EfficientNet-Lite0 Frechet distance", False, 2, measures.lite0, "efficientnet-lite0-57934424.pth",
        of_set=True, note="a stand-in: not FID",
    ),
}  # fmt: skip

PAPER = ("psnr", "ssim", "lpips", "lpips-vgg", "niqe", "fid", "arcface", "consistency", "sharpness")
STAND_INS = ("mobilefacenet", "squeezenet", "lite0")


def weights_folders(option: str | None) -> list[Path]:
    """Where weights are looked for: --weights, GCFSR_WEIGHTS, the user's cache; never empty."""
    return user_folders(option) or [Path(DEFAULT_FOLDER).expanduser()]


def entry_of(key: str) -> Entry:
    """The entry of a key, or of "cosine:FILE.onnx[?norm=half|imagenet]", an embedding given by path.

    Raises:
        GCFSRError: no such metric.
    """
    if key in ENTRIES:
        return ENTRIES[key]
    kind, _, rest = key.partition(":")
    if kind == "cosine" and rest:
        path, _, norm = rest.partition("?norm=")
        return Entry(
            f"{Path(path).stem} cosine", True, 4, partial(measures.onnx_cosine, norm=norm or "half"), path,
            packages=("onnxruntime",), note="an embedding given by path; faces must be aligned as FFHQ's are",
        )  # fmt: skip
    raise GCFSRError(f"metric {key}: unknown; known are {', '.join(ENTRIES)} and cosine:FILE.onnx")


def find_weights(entry: Entry, folders: list[Path], download: bool = False) -> Path | None:
    """Looks a weights file up in the folders, then in torch's own cache, and downloads it only when asked to.

    Args:
        entry: the metric whose weights (a name or a path) are wanted.
        folders: where to look, in this order; a download goes to the first.
        download: whether the network may be used.

    Raises:
        GCFSRError: the download failed.
    """
    import torch

    assert entry.weights is not None
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for file in filter(None, (entry.weights, entry.also)):
        for path in (Path(file), *(folder / file for folder in folders), hub / file):
            if path.is_file():
                return path
    if not (download and entry.url):
        return None
    folders[0].mkdir(parents=True, exist_ok=True)
    target = folders[0] / entry.weights
    try:
        torch.hub.download_url_to_file(entry.url, str(target), progress=False)
    except OSError as error:  # URLError is one
        raise GCFSRError(f"{entry.weights}: download failed ({error}); put it into {folders[0]} yourself") from error
    return target


def availability(entry: Entry, folders: list[Path], download: bool = False) -> tuple[Path | None, str]:
    """The weights' path and "ok", or None and what is missing: a package, or the weights file and its folder."""
    absent = [package for package in entry.packages if find_spec(package) is None]
    if absent:
        return None, f"no package: {absent[0]} (pip install 'gcfsr[eval]')"
    if entry.weights is None:
        return None, "ok"
    path = find_weights(entry, folders, download)
    return (path, "ok") if path else (None, f"no weights: {Path(entry.weights).name} goes to {shown(folders[0])}")


def shown(folder: Path) -> str:
    """A folder as a report may name it: below the home folder, or by its own name; no other path of the machine."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else folder.name


def default_metrics(weights: str | None) -> list[str]:
    """The paper's metrics, all of them, and those stand-ins whose weights are there."""
    folders = weights_folders(weights)
    return [*PAPER, *(key for key in STAND_INS if availability(ENTRIES[key], folders)[1] == "ok")]
