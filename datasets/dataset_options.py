"""The options of the data sets as dataclasses: every key, its type, default and meaning.

`from_opt` reads one block of BasicSR's `datasets:`. Keys of its loader (`LOADER_KEYS`) are passed over; any other
unknown key is an error that names it. YAML's lists become tuples.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from gcfsr_arch.errors import GCFSRError, did_you_mean
from gcfsr_datasets.degradation import Quantize, draw_factor
from gcfsr_datasets.degradation.blind_parameters import BlindRanges
from gcfsr_datasets.degradation.color import ToneRanges
from gcfsr_datasets.degradation.photograph import Photograph, PhotographRanges, draw_photograph
from gcfsr_datasets.degradation.placement import PlacementRanges
from gcfsr_datasets.degradation.second_order import SecondOrderRanges

Pair = tuple[float, float]
Options = TypeVar("Options", bound="FaceOptions")

LOADER_KEYS = frozenset(
    {
        *("type", "scale", "suffix", "batch_size_per_gpu", "num_worker_per_gpu", "use_shuffle"),
        *("dataset_enlarge_ratio", "prefetch_mode", "num_prefetch_queue", "pin_memory", "persistent_workers"),
    }
)


@dataclass(frozen=True)
class PairedOptions:
    """Real pairs that training mixes in.

    Attributes:
        dataroot_lq: folder of the degraded faces, aligned as their ground truth is; enlarged to out_size.
        dataroot_gt: folder of the ground truth, under the same names (with any suffix).
        prob: share of the samples that is a pair.
        factor: the factor of the inputs, for the dial; without it the ratio of a pair's sides, at least 1.
    """

    dataroot_lq: str
    dataroot_gt: str
    prob: float
    factor: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.prob <= 1:
            raise GCFSRError(f"paired: prob: {self.prob:g} must be above 0 and at most 1")
        if self.factor is not None and self.factor < 1:
            raise GCFSRError(f"paired: factor: {self.factor:g} must be at least 1")


@dataclass(frozen=True)
class FaceOptions:
    """Keys of every data set.

    Attributes:
        dataroot_gt: folder of the ground truth faces (with subfolders), an LMDB made by BasicSR (`*.lmdb`), or the
            root that `meta_info_file` is relative to.
        out_size: side of the images in pixels.
        name: names the data set in errors and logs.
        phase: "train" draws by (seed, epoch, index) and skips images that fail; "val" and "test" draw by (seed,
            index), never flip, augment, misplace or balance, and stop at an image that fails.
        io_backend: {"type": "disk" | "lmdb"}.
        meta_info_file: text file with one image per line (the rest of a line is ignored); default: all images.
        exclude_list: text file with one name (with or without suffix) a line: images held out.
        resize_gt: bicubic-resizes square faces of another size to out_size instead of raising an error.
        use_hflip: mirrors half of the training samples.
        seed: of all random draws; default for training: `manual_seed` of the option file.
        repeats: how often each image is in one epoch, with draws of its own. In a training of ours
            BasicSR's dataset_enlarge_ratio does the same; its own loader would give the same sample again.
        max_bad_share: share of images that may fail before the run stops, in [0, 1].
        augment: tone and colour augmentation of the ground truth, before it is degraded; see `ToneRanges`.
        misplace: moves the ground truth off the place that alignment gives a face, before that; see `PlacementRanges`.
        balance_luminance: draws training images evenly over the luminance of the face's middle.
        luminance_cache: file that keeps these luminances; without it they are measured at every start.
        mean, std: of R, G, B in [0, 1]: images are returned as (image - mean) / std, as BasicSR's data sets do; without
            them in [-1, 1], which is 0.5 for both and what our networks take.
        valid_corners: table of the images whose border is padding (see `valid_area`); samples then have a mask `valid`,
            (1, S, S) with 1 inside the photograph, and training leaves the rest out of every loss.
        extra_roots: further folders or LMDBs, read as dataroot_gt is.
        root_weights: proportions in which training draws from dataroot_gt and each of extra_roots; without them every
            image is drawn as often.
        paired: mixes real pairs in; they are flipped, but not moved, tinted or degraded. See `PairedOptions`.
    """

    dataroot_gt: str
    out_size: int
    name: str = "faces"
    phase: Literal["train", "val", "test"] = "train"
    io_backend: dict[str, Any] = field(default_factory=lambda: {"type": "disk"})
    meta_info_file: str | None = None
    exclude_list: str | None = None
    resize_gt: bool = False
    use_hflip: bool = False
    seed: int = 0
    repeats: int = 1
    max_bad_share: float = 0.01
    augment: ToneRanges | None = None
    misplace: PlacementRanges | None = None
    balance_luminance: bool = False
    luminance_cache: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    valid_corners: str | None = None
    extra_roots: tuple[str, ...] | None = None
    root_weights: tuple[float, ...] | None = None
    paired: PairedOptions | None = None

    @classmethod
    def from_opt(cls: type[Options], opt: dict[str, Any]) -> Options:
        """Reads a block of BasicSR's options.

        Raises:
            GCFSRError: a key is unknown, missing, or its value is out of range.
        """
        return read_block(cls, opt, f"datasets: {opt.get('name', 'faces')}", LOADER_KEYS)

    def __post_init__(self) -> None:
        for key, kind in (("augment", ToneRanges), ("misplace", PlacementRanges), ("paired", PairedOptions)):
            self._read_nested(key, kind)
        backend = self.io_backend.get("type")
        self._require(self.out_size >= 1, "out_size", "a positive number of pixels")
        self._require(backend in ("disk", "lmdb"), "io_backend: type", "disk or lmdb")
        self._require(self.phase in ("train", "val", "test"), "phase", "train, val or test")
        self._require(self.repeats >= 1, "repeats", "at least 1")
        self._require(self.seed >= 0, "seed", "at least 0")
        self._require(0 <= self.max_bad_share <= 1, "max_bad_share", "between 0 and 1")
        self._require((self.mean is None) == (self.std is None), "mean, std", "given together")
        valid = self.std is None or (len(self.mean or ()) == len(self.std) == 3 and min(self.std) > 0)
        self._require(valid, "mean, std", "three numbers each, std above 0")
        self._require(not (self.extra_roots and self.meta_info_file), "meta_info_file", "left out with extra_roots")
        weights = self.root_weights
        valid = weights is None or (len(weights) == 1 + len(self.extra_roots or ()) > 1 and min(weights) > 0)
        self._require(valid, "root_weights", "one number above 0 for dataroot_gt and for each of extra_roots")

    def _read_nested(self, key: str, kind: type) -> None:
        if isinstance(block := getattr(self, key), dict):
            object.__setattr__(self, key, read_block(kind, block, f"datasets: {self.name}: {key}"))

    def _require(self, holds: bool, key: str, wanted: str) -> None:
        if not holds:
            raise GCFSRError(f"datasets: {self.name}: {key} must be {wanted}")


@dataclass(frozen=True)
class MultiFactorOptions(FaceOptions):
    """Keys of `MultiFactorDegradationDataset`; exactly one of `factors`, `factor_range` and `factor` is given.

    Attributes:
        max_factor: s = factor / max_factor.
        factors: drawn uniformly; a duplicated one is drawn twice as often.
        factor_range: [smallest, largest], drawn uniformly and moved to the nearest ratio out_size / n of whole pixels.
        factor_draw: "uniform" over factor_range, or "log": uniform in its logarithm, every octave equally often.
        factor: the same for every sample, as for validation.
        quantize: True clips and rounds the small image to 8 bits, as a file would hold it, before it is enlarged;
            "enlarged" the enlarged one, as the released code does.
    """

    max_factor: float = 64.0
    factors: tuple[float, ...] | None = None
    factor_range: Pair | None = None
    factor_draw: Literal["uniform", "log"] = "uniform"
    factor: float | None = None
    quantize: Quantize = False

    @property
    def choices(self) -> tuple[float, ...]:
        """The factors to choose from; empty if they come from a range."""
        return self.factors or (() if self.factor is None else (self.factor,))

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [choice for choice in (self.factors, self.factor_range, self.factor) if choice is not None]
        self._require(len(given) == 1, "factors, factor_range, factor", "given exactly once in all")
        self._require(self.quantize in (False, True, "enlarged"), "quantize", "false, true or enlarged")
        every = (*self.choices, *(self.factor_range or ()))
        within = len(every) > 0 and all(1 <= factor <= min(self.max_factor, self.out_size) for factor in every)
        self._require(within, "factor", f"from 1 to max_factor {self.max_factor:g} and out_size {self.out_size}")
        self._require(self.factor_draw in ("uniform", "log"), "factor_draw", "uniform or log")
        pair = self.factor_range or (1, 1)
        self._require(len(pair) == 2 and pair[0] <= pair[1], "factor_range", "[smallest, largest]")


@dataclass(frozen=True)
class BlindOptions(BlindRanges, FaceOptions):  # FaceOptions' keys come first
    """Keys of `BlindFaceDegradationDataset`: those above and `BlindRanges`, whose names are GFPGAN's.

    Attributes:
        second_order: Real-ESRGAN's degradation instead of blur, noise and JPEG; downsample_range and the colours stay.
            See `SecondOrderRanges`.
    """

    second_order: SecondOrderRanges | None = None

    def __post_init__(self) -> None:
        FaceOptions.__post_init__(self)
        self._read_nested("second_order", SecondOrderRanges)
        BlindRanges.__post_init__(self)


@dataclass(frozen=True)
class PhotographDraws(PhotographRanges):
    """From what the factor and the degradation of one photograph are drawn.

    Attributes:
        factor_range, factor_draw, max_factor: as in `MultiFactorOptions`.
    """

    factor_range: Pair = (2.0, 32.0)
    factor_draw: Literal["uniform", "log"] = "log"
    max_factor: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        lowest, largest = self.factor_range
        if not 1 <= lowest <= largest <= self.max_factor:
            raise GCFSRError(f"photograph: factor_range must be [smallest, largest] from 1 to {self.max_factor:g}")
        if self.factor_draw not in ("uniform", "log"):
            raise GCFSRError("photograph: factor_draw must be uniform or log")

    def draw(self, rng: np.random.Generator, side: int) -> tuple[float, Photograph]:
        """The factor and the degradation of a face of `side` pixels, in a fixed order."""
        factor = draw_factor(rng, side, *self.factor_range, log=self.factor_draw == "log")
        return factor, draw_photograph(rng, self)


@dataclass(frozen=True)
class PhotographOptions(PhotographDraws, FaceOptions):  # FaceOptions' keys come first
    """Keys of `PhotographDegradationDataset`: those of `FaceOptions` and `PhotographRanges`, and the factor's.

    Attributes:
        contributions: samples hold what blur, noise and JPEG each did to the input, for dials off their true place; up
            to three more degradations a sample.
    """

    contributions: bool = False

    def __post_init__(self) -> None:
        FaceOptions.__post_init__(self)
        PhotographDraws.__post_init__(self)
        self._require(self.factor_range[1] <= self.out_size, "factor_range", f"at most out_size {self.out_size}")
        self._require(not (self.contributions and self.paired), "contributions", "false with paired")


Block = TypeVar("Block")


def read_block(cls: type[Block], block: dict[str, Any], place: str, ignored: frozenset[str] = frozenset()) -> Block:
    """Builds a dataclass from a mapping; lists become tuples, and None means the default where it is not a value."""
    known = {spec.name: spec.type for spec in fields(cls)}  # type: ignore[arg-type]
    for key in block.keys() - known.keys() - ignored:
        raise GCFSRError(f"{place}: {key} is not an option, {did_you_mean(key, known, 'remove it')}")
    given = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in block.items()
        if key in known and (value is not None or type(None) in get_args(known[key]))
    }
    try:
        return cls(**given)
    except TypeError as error:
        raise GCFSRError(f"{place}: {str(error).partition(') ')[2] or error}; see the options' table") from error
