"""Schema of the validation metrics: BasicSR's of pixels, and those of `gcfsr_measure` under names of ours."""

from typing import Literal

from pydantic import Field

from gcfsr_arch.training.options.data import one_of
from gcfsr_arch.training.options.types import NaturalInt, OpenSection, Section


class Metric(Section):
    """Keys of every metric."""

    type: str
    better: Literal["higher", "lower"] = Field("higher", description="Which values count as better, for the best one.")
    crop_border: NaturalInt = Field(0, description="Pixels cut from each side.")


class PixelMetric(Metric):
    """PSNR or SSIM."""

    type: Literal["calculate_psnr", "calculate_ssim"]
    test_y_channel: bool = Field(False, description="On Y of YCbCr.")
    input_order: Literal["HWC"] = Field("HWC", description="Only HWC, as images are here.")


class Niqe(Metric):
    """NIQE, which needs no ground truth."""

    type: Literal["calculate_niqe"]
    convert_to: Literal["y", "gray"] = Field("y", description="The channel that is judged; the published values: y.")
    input_order: Literal["HWC"] = Field("HWC", description="Only HWC, as images are here.")


class NetworkMetric(Metric):
    """A distance of a network's features, of images or of whole sets."""

    type: Literal["calculate_fid_gcfsr", "calculate_feature_distance", "calculate_feature_frechet"]
    weights: str = Field(description="The network's weights: of Inception for FID, otherwise of SqueezeNet 1.1.")


class Lpips(Metric):
    """LPIPS 0.1."""

    type: Literal["calculate_lpips"]
    weights: str = Field(description="torchvision's weights of the network; its heads come with the package lpips.")
    net: Literal["alex", "vgg", "squeeze"] = Field("alex", description="The network.")


class Identity(Metric):
    """Cosine of the face embeddings of output and ground truth."""

    type: Literal["calculate_identity"]
    weights: str = Field(description="ONNX file of an embedding of 112x112 pixels.")
    norm: Literal["half", "imagenet", "raw"] | None = Field(
        None, description="Its input's normalisation, for a file of another name than a known embedding's."
    )


class OtherMetric(OpenSection):
    """A metric that is not ours; its own function reads the other keys."""

    type: str
    better: Literal["higher", "lower"] = "higher"


KNOWN: dict[str, tuple[type[Section], str]] = {  # type -> its section, its key in `gcfsr_measure.catalogue`
    "calculate_psnr": (PixelMetric, "psnr"),
    "calculate_ssim": (PixelMetric, "ssim"),
    "calculate_niqe": (Niqe, "niqe"),
    "calculate_lpips": (Lpips, "lpips"),
    "calculate_identity": (Identity, "cosine:FILE"),
    "calculate_fid_gcfsr": (NetworkMetric, "fid"),
    "calculate_feature_distance": (NetworkMetric, "squeezenet"),
    "calculate_feature_frechet": (NetworkMetric, "squeezenet-frechet"),
}
METRICS = {name: section for name, (section, _) in KNOWN.items()}
CATALOGUE = {name: key for name, (_, key) in KNOWN.items()}
AnyMetric = one_of(METRICS, OtherMetric)
