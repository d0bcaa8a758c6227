"""The methods that are compared. Each turns a batch of small images into results of the ground truth's size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_datasets.resize import resize
from gcfsr_inference.evaluation.conditions import Condition
from gcfsr_inference.evaluation.workspace import by_stem
from gcfsr_inference.restore.dial import clip_factor
from gcfsr_inference.restore.restorer import Restorer, Strength

Image = NDArray[Any]  # (H, W, 3) BGR, uint8 or floating-point in [0, 255]
Known = Mapping[str, float]  # what made an input, as `inputs.true_conditions` returns it


class Method(Protocol):
    """Anything that restores.

    Attributes:
        label: its name in the tables.
        identity: what its results depend on (kind, file hash, options); a run that resumes checks it.
    """

    label: str
    identity: dict[str, Any]

    def absent(self, condition: Condition) -> str | None:
        """Why the method has no result under the condition, or None if it has one."""
        ...

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        """Results for small images of one size, each (*size, 3) BGR, uint8 or float in [0, 255]; floats may be NaN.

        `true` are `inputs.true_conditions` of each.
        """
        ...


def no_dial(condition: Condition) -> str | None:
    """The reason that a method without a dial gives for a condition that sets the dial."""
    return "has no dial" if condition.turned else None


class WithoutDial:
    """What the methods without a dial share."""

    def absent(self, condition: Condition) -> str | None:
        return no_dial(condition)


def upsample(low: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Our bicubic, clipped: the input of other authors' networks. (h, w, 3) uint8 BGR -> (H, W, 3) in [0, 1]."""
    return np.clip(resize(low.astype(np.float32) / 255, (size[0], size[1])), 0, 1)


INPUT = "input"  # label of the row for the input


@dataclass
class Bicubic(WithoutDial):
    """MATLAB's bicubic, as in the paper: the input resized to the output size. It is the first row of every report."""

    label: str = "bicubic"
    identity: dict[str, Any] = field(default_factory=lambda: {"kind": "bicubic"})

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        return [upsample(low, size) * 255 for low in lows]


@dataclass
class Lanczos(WithoutDial):
    """Pillow's Lanczos with three lobes."""

    label: str = "lanczos"
    identity: dict[str, Any] = field(default_factory=lambda: {"kind": "lanczos"})

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        from PIL import Image as Pillow

        return [np.asarray(Pillow.fromarray(low).resize((size[1], size[0]), Pillow.Resampling.LANCZOS)) for low in lows]


@dataclass
class Folder:
    """Existing result images: PATH/CONDITION/NAME.*, or PATH/NAME.* when there is one condition."""

    label: str
    path: Path
    identity: dict[str, Any]

    def absent(self, condition: Condition) -> str | None:
        if condition.turned and not (self.path / condition.key).is_dir():
            return f"no folder {condition.key}"
        return None

    def files(self, condition: Condition, alone: bool) -> dict[str, Path]:
        """Images by stem.

        Raises:
            GCFSRError: the folder does not exist or has no images, or two images share a stem.
        """
        folder = self.path / condition.key
        if folder.is_dir():
            return by_stem(folder)
        if alone:
            return by_stem(self.path)
        raise GCFSRError(f"{self.path}: has no folder {condition.key}; each condition needs its own")

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        raise NotImplementedError("a folder's images are read, not computed")


@dataclass
class Checkpoint:
    """One of our generators.

    Attributes:
        s: fixes the factor's dial for every condition; by default it follows the condition.
        dials: of the other conditions, and of the factor where the condition has none: "auto" as `gcfsr restore` sets
            them, "true" what made the input, a number that of all but the factor, which is then estimated. None is
            "auto", but leaves out conditions without a factor.
    """

    label: str
    identity: dict[str, Any]
    restorer: Restorer
    seed: int
    s: float | None = None
    dials: float | str | None = None

    def absent(self, condition: Condition) -> str | None:
        if self.restorer.blind or self.s is not None:
            return no_dial(condition)
        if condition.dial is None:
            return "needs a factor; fix the dial with ?s=, or set all with ?dials=" if self.dials is None else None
        low, high = self.restorer.min_factor, self.restorer.max_factor
        return None if low <= condition.dial <= high else f"the checkpoint's factors are {low:g} to {high:g}"

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        self.check_size(size)
        strengths = [self.strength(low, condition, known) for low, known in zip(lows, true, strict=True)]
        return self.restorer.run_batch(lows, strengths, "fixed", [self.seed] * len(lows))

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises GCFSRError unless (height, width) is what the checkpoint makes."""
        side = self.restorer.out_size
        if size != (side, side):
            raise GCFSRError(
                f"{self.label}: the checkpoint makes {side}x{side}, the ground truth is {size[1]}x{size[0]}; "
                f"pass --out-size {side}"
            )

    def strength(self, low: Image, condition: Condition, true: Known) -> Strength | None:
        """Where all dials are set for one image."""
        if self.restorer.blind:
            return None
        factor: float | str = "auto" if condition.dial is None else condition.dial
        if factor == "auto" and self.dials == "true":
            factor = clip_factor(true["factor"], self.restorer)
        others: dict[str, float | str] = {} if self.s is None else {"factor": self.s}
        if self.dials is not None and self.dials != "auto":
            names = self.restorer.conditions[1:]
            others |= {name: true[name] if self.dials == "true" else self.dials for name in names}
        return self.restorer.strength(low, factor if self.s is None else "auto", others)

    def reads(self) -> bool:
        """Whether the report states how well it estimates the conditions."""
        return self.dials == "auto" and self.restorer.backend.estimates

    def read(self, low: Image) -> tuple[list[float], list[float]]:
        """What the estimator reads of an image: mean and standard deviation of each condition, in [0, 1]."""
        found = self.restorer.backend.estimate(self.restorer.encode(low))
        return found.mean[0].tolist(), found.deviation[0].tolist()


@dataclass
class Network(WithoutDial):
    """Any torch model from RGB to RGB: a BasicSR architecture, or one that spandrel loads.

    Attributes:
        model: (N, 3, h, w) -> (N, 3, H, W), or a tuple whose first part is that.
        upsampled: True if its input is the bicubic image of the ground truth's size instead of the small one.
        signed: True if it works in [-1, 1] instead of [0, 1].
        fit: True to resize a result of another size to the ground truth's size by bicubic.
    """

    label: str
    identity: dict[str, Any]
    model: Any
    device: str
    upsampled: bool = False
    signed: bool = False
    fit: bool = False

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        import torch

        given = size if self.upsampled else lows[0].shape[:2]
        x = to_tensor([upsample(low, given) for low in lows]).to(self.device)
        try:
            with torch.inference_mode():
                y = self.model(x * 2 - 1 if self.signed else x)
        except RuntimeError as error:  # a size that the model does not accept, or out of memory
            raise GCFSRError(f"{self.label}: input {tuple(x.shape)}: {first_line(error)}") from error
        y = y[0] if isinstance(y, tuple | list) else y
        results = from_tensor((y + 1) / 2 if self.signed else y)
        if self.fit and results[0].shape[:2] != size:
            results = [resize(result, size) for result in results]
        return results


@dataclass
class Function(WithoutDial):
    """A Python callable f(low, factor, size): low (h, w, 3) BGR uint8, factor None when blind, size (H, W)."""

    label: str
    identity: dict[str, Any]
    function: Any

    def restore(
        self, lows: Sequence[Image], size: tuple[int, int], condition: Condition, true: Sequence[Known] = ()
    ) -> list[Image]:
        try:
            return [self.function(low, condition.factor, size) for low in lows]
        except Exception as error:  # the user's function may raise anything
            reason = " ".join(str(error).split())  # OpenCV's has several lines
            raise GCFSRError(f"python:{self.identity['function']}: {type(error).__name__}: {reason}") from error


def to_tensor(images: Sequence[Image]) -> Any:
    """(H, W, 3) BGR in [0, 1] -> (N, 3, H, W) RGB float32."""
    import torch

    return torch.from_numpy(np.stack(images)[..., ::-1].astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def from_tensor(y: Any) -> list[Image]:
    """(N, 3, H, W) RGB in [0, 1] -> (H, W, 3) BGR float32 in [0, 255], not clipped."""
    return [x[..., ::-1] * 255 for x in y.float().cpu().permute(0, 2, 3, 1).numpy()]
