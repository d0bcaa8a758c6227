"""The settings of an evaluation."""

from dataclasses import asdict, dataclass
from typing import Any

from gcfsr_datasets.dataset_options import PhotographDraws
from gcfsr_datasets.degradation.blind_parameters import BlindRanges
from gcfsr_datasets.image_io import MAX_PIXELS
from gcfsr_inference.evaluation.conditions import CELEBA_TEST, Protocol


@dataclass(frozen=True)
class Settings:
    """The options of `gcfsr evaluate`; see its `--help` for each."""

    gt: str
    out: str
    protocol: Protocol
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    weights: str | None = None
    download: bool = False
    seed: int = 0
    batch: int = 4
    jobs: int = 1
    device: str = "cpu"
    on_bad: str = "error"
    out_size: int | None = None
    include: tuple[str, ...] = ()
    limit: int | None = None
    groups: tuple[str, ...] = ()
    blind: BlindRanges | PhotographDraws = CELEBA_TEST
    max_pixels: int = MAX_PIXELS

    @property
    def size(self) -> int | None:
        """Side of the ground truth in pixels, None: unchanged."""
        return self.out_size or self.protocol.out_size

    @property
    def is_blind(self) -> bool:
        """Whether a condition has the blind degradation."""
        return any(condition.factor is None for condition in self.protocol.conditions)

    def inputs_identity(self) -> dict[str, Any]:
        """What the degraded inputs depend on, apart from the ground truth and the condition."""
        identity = {"seed": self.seed, "out_size": self.size}
        return {**identity, "blind": asdict(self.blind)} if self.is_blind else identity
