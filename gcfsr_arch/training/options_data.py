"""Schema of the block `datasets`: our data sets, the released code's, and anybody else's."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, create_model

from gcfsr_arch.training.options_types import (
    Count,
    Float,
    Int,
    NaturalInt,
    OpenSection,
    Positive,
    PositiveRange,
    Range,
    Section,
    Share,
    Size,
    Weight,
    unused,
)

Half = Annotated[Float, Field(ge=0.5, le=0.5)]
HalfTriple = Annotated[list[Half], Field(min_length=3, max_length=3)]


class IoBackend(Section):
    """Where pictures are read from."""

    type: Literal["disk", "lmdb"] = Field("disk", description="A folder of picture files, or an LMDB made by BasicSR.")
    db_paths: list[str] | str | None = unused("the LMDB's path is dataroot_gt")
    client_keys: list[str] | str | None = unused("the LMDB's path is dataroot_gt")


class Loader(Section):
    """Keys that BasicSR's data loader reads for every data set."""

    name: str = Field(description="Name of the data set in the log and the metrics.")
    scale: Int | None = unused("pictures come at output size")
    num_worker_per_gpu: NaturalInt | None = Field(
        None, description="Loading processes per device; 0 loads in the trainer."
    )
    batch_size_per_gpu: Count | None = Field(None, description="Pictures per device and iteration.")
    dataset_enlarge_ratio: Positive = Field(1, description="How often the data set is repeated in one epoch.")
    prefetch_mode: Literal["cpu", "cuda"] | None = Field(None, description="cpu: a thread; cuda: copies ahead.")
    num_prefetch_queue: Count = Field(1, description="Batches that prefetch_mode cpu holds ready.")
    pin_memory: bool = Field(False, description="Page-locked batches; prefetch_mode cuda needs it.")
    persistent_workers: bool = Field(False, description="Keep the loading processes from epoch to epoch.")
    use_shuffle: bool | None = unused("training always shuffles and validation never does")


class Tones(Section):
    """Augmentation of the truth before it is degraded, by the names of `gcfsr_datasets.color.ToneRanges`."""

    gamma: PositiveRange | None = Field(None, description="Exponent of the pixels; above 1 darkens.")
    brightness: Range | None = Field(None, description="Factor.")
    contrast: Range | None = Field(None, description="Factor of the distance to the mean luminance.")
    saturation: Range | None = Field(None, description="Factor of the distance to gray.")
    temperature: Range | None = Field(None, description="Red gain 1 + t, blue gain 1 - t.")
    prob: Share = Field(1.0, description="Probability that a sample is augmented.")


class Placement(Section):
    """Misplacement of the truth before it is degraded, by the names of `gcfsr_datasets.placement.PlacementRanges`."""

    scale: PositiveRange | None = Field(None, description="Size of the face relative to the aligned one.")
    shift: Range | None = Field(None, description="Share of the side, drawn for either axis.")
    rotate: Range | None = Field(None, description="Degrees, counter-clockwise.")
    prob: Share = Field(1.0, description="Probability that a sample is misplaced.")


class FaceFolder(Loader):
    """Keys that both of our data sets know; `gcfsr_datasets.dataset_options` says more of each."""

    dataroot_gt: str = Field(description="Folder or LMDB of the true faces, or the root of meta_info_file's names.")
    out_size: Size = Field(description="Side of the pictures in pixels, the network's.")
    io_backend: IoBackend = Field(default_factory=lambda: IoBackend(), description="How dataroot_gt is read.")
    meta_info_file: str | None = Field(None, description="Text file, one picture a line, relative to dataroot_gt.")
    exclude_list: str | None = Field(None, description="Text file, one name a line: pictures held out.")
    resize_gt: bool = Field(False, description="Resize true faces of another size to out_size instead of refusing.")
    use_hflip: bool = Field(False, description="Mirror half of the training samples.")
    seed: NaturalInt = Field(0, description="Decides every random draw.")
    repeats: Count = Field(1, description="How often a picture stands in an epoch, with draws of its own each time.")
    max_bad_share: Share = Field(0.01, description="Share of unreadable pictures above which the run stops.")
    augment: Tones | None = Field(None, description="Tone and colour augmentation of the truth.")
    misplace: Placement | None = Field(None, description="Moves the truth off the place alignment gives a face.")
    balance_luminance: bool = Field(False, description="Draw training pictures evenly over the faces' luminance.")
    luminance_cache: str | None = Field(None, description="File that keeps the luminances.")
    valid_corners: str | None = Field(None, description="Table of the images whose border is padding.")
    mean: HalfTriple | None = Field(None, description="Only 0.5: the networks live in [-1, 1].")
    std: HalfTriple | None = Field(None, description="Only 0.5: the networks live in [-1, 1].")


class MultiFactor(FaceFolder):
    """MultiFactorDegradationDataset: bicubic down by a drawn factor and up again."""

    type: Literal["MultiFactorDegradationDataset"]
    factors: Annotated[list[Positive], Field(min_length=1)] | None = Field(
        None, description="Factors to draw from; one that stands twice is drawn twice as often."
    )
    factor_range: PositiveRange | None = Field(None, description="[smallest, largest]: drawn continuously instead.")
    factor_draw: Literal["uniform", "log"] = Field("uniform", description="How factor_range is drawn.")
    factor: Positive | None = Field(None, description="This factor for every picture, as validation wants it.")
    max_factor: Positive = Field(64, description="s = factor / max_factor.")
    quantize: bool | Literal["enlarged"] = Field(
        False, description="Round the small image to 8 bits before it is enlarged (true), or the enlarged one."
    )


class BlindFace(FaceFolder):
    """BlindFaceDegradationDataset: GFPGAN's blur, downsampling, noise and JPEG."""

    type: Literal["BlindFaceDegradationDataset"]
    blur_kernel_size: Count = Field(41, description="Side of the blur kernel in pixels, odd.")
    kernel_list: list[Literal["iso", "aniso"]] = Field(["iso", "aniso"], description="Kinds of Gaussian blur.")
    kernel_prob: list[Weight] = Field([0.5, 0.5], description="Their probabilities.")
    blur_sigma: PositiveRange = Field([0.1, 10], description="Standard deviation of the blur in pixels.")
    downsample_range: PositiveRange = Field([0.8, 8], description="Ratio of the downsampling.")
    noise_range: Range | None = Field([0, 20], description="Standard deviation of the noise, of 255; ~ for none.")
    jpeg_range: Range | None = Field([60, 100], description="JPEG quality; ~ for none.")
    color_jitter_prob: Share | None = Field(0.3, description="Probability of a colour shift.")
    color_jitter_shift: Weight = Field(20, description="Largest colour shift, of 255.")
    color_jitter_pt_prob: Share | None = Field(0.3, description="Probability of the four jitters below.")
    gray_prob: Share | None = Field(0.01, description="Probability of a gray input.")
    brightness: Range = Field([0.5, 1.5], description="Factor of the brightness jitter.")
    contrast: Range = Field([0.5, 1.5], description="Factor of the contrast jitter.")
    saturation: Range = Field([0, 1.5], description="Factor of the saturation jitter.")
    hue: Range = Field([-0.1, 0.1], description="Turn of the hue jitter as a share of the circle.")


class PhotographFace(FaceFolder):
    """PhotographDegradationDataset: rotated, at any phase, reduced, worn, aligned again, as in a photograph."""

    type: Literal["PhotographDegradationDataset"]
    factor_range: PositiveRange = Field([2, 32], description="[smallest, largest] reduction.")
    factor_draw: Literal["uniform", "log"] = Field("log", description="How factor_range is drawn.")
    max_factor: Positive = Field(32, description="s = factor / max_factor.")
    exact_prob: Share = Field(0.3, description="Probability of the paper's exact bicubic reduction instead.")
    rotate: Range = Field([-12, 12], description="Degrees by which the face is turned in the photograph.")
    enlarge_prob: Share = Field(0.4, description="Probability of an enlargement before the alignment.")
    enlarge_range: PositiveRange = Field([1.2, 4], description="Ratio of that enlargement.")
    worn_prob: Share = Field(0.5, description="Probability of blur, noise and JPEG.")
    blur_prob: Share = Field(0.5, description="Probability of the blur of a worn image.")
    blur_sigma: PositiveRange = Field([0.2, 1.5], description="Its standard deviations, pixels of the reduced image.")
    noise_range: Range = Field([0, 12], description="Standard deviation of the noise of a worn image, of 255.")
    gray_noise_prob: Share = Field(0.4, description="Probability that all channels get the same noise.")
    jpeg_prob: Share = Field(0.8, description="Probability of JPEG compression of a worn image.")
    jpeg_range: PositiveRange = Field([50, 95], description="Its quality.")


class ReleasedControl(FaceFolder):
    """FFHQ_control_Dataset of the released code: factors drawn from `downsample_list`."""

    type: Literal["FFHQ_control_Dataset"]
    out_size: Size | None = Field(None, description="Without it the network's.")
    downsample_list: Annotated[list[Positive], Field(min_length=1)]
    cond_norm: Positive = Field(64, description="s = factor / cond_norm.")


class ReleasedSingle(Loader):
    """SingleImage_GT_Dataset of the released code: inputs without truth."""

    type: Literal["SingleImage_GT_Dataset"]
    dataroot_lq: str
    dataroot_gt: str | None = None
    out_size: Size
    cond_norm: Positive = 64
    io_backend: IoBackend = Field(default_factory=lambda: IoBackend())
    meta_info_file: str | None = None
    mean: HalfTriple | None = None
    std: HalfTriple | None = None


class OtherDataset(OpenSection):
    """A data set that is not ours; its own class reads its keys."""

    name: str
    type: str


DATASETS: dict[str, type[Section]] = {
    "MultiFactorDegradationDataset": MultiFactor,
    "BlindFaceDegradationDataset": BlindFace,
    "PhotographDegradationDataset": PhotographFace,
    "FFHQ_control_Dataset": ReleasedControl,
    "SingleImage_GT_Dataset": ReleasedSingle,
}


def one_of(kinds: dict[str, type[Section]], other: type[OpenSection]) -> Any:
    """The union of all kinds by their `type`, and `other` for any other; a block without one is read as the first."""
    first = next(iter(kinds))

    def tag(block: Any) -> str:
        kind = block.get("type", first) if isinstance(block, dict) else getattr(block, "type", first)
        return kind if kind in kinds else "other"

    none_of_ours = Field(json_schema_extra={"not": {"enum": list(kinds)}})
    rest = create_model(other.__name__, __base__=other, __doc__=other.__doc__, type=(str, none_of_ours))
    union: Any = Annotated[rest, Tag("other")]
    for name, kind in kinds.items():
        union = union | Annotated[kind, Tag(name)]
    return Annotated[union, Discriminator(tag)]


Dataset = one_of(DATASETS, OtherDataset)
