"""Every metric: its name in the tables, what it needs, and how it is built from its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_measure import measures
from gcfsr_measure.measures import Measure

TORCHVISION = "https://download.pytorch.org/models/"
FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.1.0/"


@dataclass(frozen=True)
class Entry:
    """A metric of training and the reports.

    Attributes:
        name: its name in the tables; a substitute never has the name of a standard metric.
        higher: True if higher is better.
        digits: decimals shown.
        make: builds the measure from (weights path or None, device).
        weights: file name (or path) of the weights, None if it needs none.
        url: where the metric's package downloads that file from, None if it has no download.
        also: another name of the same file.
        packages: import names that must be installed.
        of_set: True for a distance between sets: the measure returns features, `frechet_distance` the value.
        reference: False if the metric needs no ground truth.
        undefined: when the value of an image is not defined.
        note: a note for the reader of a report.
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
    reference: bool = True
    undefined: str = ""
    note: str = ""

    @property
    def on_device(self) -> bool:
        """True for a network, which runs on the device; the others are computed from pixels on the CPU."""
        return self.weights is not None


SMALL_SSIM = "a side is below 11 pixels"
ENTRIES: dict[str, Entry] = {
    "psnr": Entry("PSNR (RGB)", True, 2, measures.psnr_rgb, note="dB, all three channels at once, as in BasicSR"),
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
    "lpips-squeeze": Entry(
        "LPIPS (squeeze)", False, 4, partial(measures.lpips, net="squeeze"), "squeezenet1_1-b8a52dc0.pth",
        TORCHVISION + "squeezenet1_1-b8a52dc0.pth", packages=("lpips",), note="lpips 0.1",
    ),
    "niqe": Entry(
        "NIQE", False, 2, measures.naturalness, packages=("basicsr",), reference=False,
        undefined="the image is flat or holds fewer than two blocks of 96x96 pixels",
        note="BasicSR's, on Y; no reference",
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
        "LR consistency", True, 2, measures.lr_consistency, undefined="the blind degradation cannot be repeated",
        note="PSNR in dB between the result, downscaled again, and the input",
    ),
    "sharpness": Entry(
        "Sharpness match", True, 3, measures.sharpness_match, undefined="both images are flat",
        note="variance of the Laplacian of Y, the smaller over the larger of result and ground truth",
    ),
    "mobilefacenet": Entry(
        "MobileFaceNet cosine", True, 4, measures.onnx_cosine, "MobileFaceNet.onnx",
        packages=("onnxruntime",), note="a substitute for the paper's ArcFace; faces must be aligned as FFHQ's are",
    ),
    "dlib": Entry(
        "dlib cosine", True, 4, measures.dlib_cosine, "dlib-face.safetensors",
        note="dlib's face embedding by tools/face_api.py, not the paper's ArcFace; other people have about 0.84, the "
        "same person 0.99; faces must be aligned as FFHQ's are",
    ),
    "landmarks": Entry(
        "Landmark error", False, 2, measures.landmark_error, "face-landmark-68.safetensors",
        note="mean distance of face-api's 68 landmarks in % of the distance of the outer eye corners, not the LMD of a "
        "paper; faces must be aligned as FFHQ's are",
    ),
    "squeezenet": Entry(
        "SqueezeNet feature distance", False, 4, measures.squeezenet,
        "squeezenet1_1_caffe_torchvision_layout.pth",
        note="a substitute: SqueezeNet 1.1 features without learned heads, not LPIPS",
    ),
    "squeezenet-frechet": Entry(
        "SqueezeNet Frechet distance", False, 4, measures.squeezenet_features,
        "squeezenet1_1_caffe_torchvision_layout.pth", of_set=True, note="a substitute: not FID",
    ),
    "lite0": Entry(
        "EfficientNet-Lite0 Frechet distance", False, 2, measures.lite0, "efficientnet-lite0-57934424.pth",
        of_set=True, note="a substitute: not FID",
    ),
}  # fmt: skip

PAPER = ("psnr", "ssim", "lpips", "lpips-vgg", "niqe", "fid", "arcface", "consistency", "sharpness")
SUBSTITUTES = ("mobilefacenet", "dlib", "landmarks", "squeezenet", "lite0")


def entry_of(key: str) -> Entry:
    """The entry of a key, of "cosine:FILE.onnx[?norm=half|imagenet|raw]" (an embedding by path), or of "pyiqa:NAME".

    Raises:
        GCFSRError: no such metric.
    """
    if key in ENTRIES:
        return ENTRIES[key]
    kind, _, rest = key.partition(":")
    if kind == "cosine" and rest:
        path, _, norm = rest.partition("?norm=")
        return Entry(
            f"{Path(path).stem} cosine", True, 4, partial(measures.onnx_cosine, norm=norm), path,
            packages=("onnxruntime",), note="an embedding given by path; faces must be aligned as FFHQ's are",
        )  # fmt: skip
    if kind == "pyiqa" and rest:
        return _pyiqa_entry(rest)
    raise GCFSRError(f"metric {key}: unknown; known are {', '.join(ENTRIES)}, cosine:FILE.onnx and pyiqa:NAME")


def _pyiqa_entry(name: str) -> Entry:
    """A metric of pyiqa, which is never a dependency; without the package its entry reports that it is missing."""
    about = {}
    if find_spec("pyiqa"):
        known = import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
        if name not in known:
            raise GCFSRError(f"metric pyiqa:{name}: pyiqa has no such metric; `pyiqa.list_models()` lists them")
        about = known[name]
    return Entry(
        f"{name} (pyiqa)", not about.get("lower_better", False), 4, partial(measures.by_pyiqa, name=name),
        packages=("pyiqa",), reference=about.get("metric_mode") != "NR",
        note="by the package pyiqa, whose licence is non-commercial; it downloads its networks itself",
    )  # fmt: skip


@lru_cache(maxsize=32)
def measure_of(key: str, weights: Path | None, device: str) -> Measure:
    """Builds a measure once per process.

    Raises:
        GCFSRError: no such metric, or the weights are another network's.
    """
    return entry_of(key).make(weights, device)
