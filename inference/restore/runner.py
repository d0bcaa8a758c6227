"""The dial applied face by face: what every way of restoring (aligned files, photographs, video) shares."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.restore.arrays import picture
from gcfsr_inference.restore.autofactor import estimate_factor
from gcfsr_inference.restore.consistency import Consistency, LockCost, consistency, lock
from gcfsr_inference.restore.dial import clip_factor, strength_of_factor
from gcfsr_inference.restore.hashes import picture_seed
from gcfsr_inference.restore.restorer import Restorer, Strength


@dataclass(frozen=True)
class Settings:
    """How faces are restored.

    Attributes:
        factor: "auto" or a factor; not used where `s` is given.
        s: a strength for every face: a number, one per level, or a map (H, W).
        noise, seed: as in `Restorer.restore`.
        measure: compare each result with its input.
        lock: project each result back onto its input.
        draws: noise draws per face for `FaceRecord.spread`; 0 makes none.
    """

    factor: float | str = "auto"
    s: Strength | None = None
    noise: str = "fixed"
    seed: int = 0
    measure: bool = False
    lock: bool = False
    draws: int = 0


@dataclass
class FaceRecord:
    """What was done to one face.

    Attributes:
        factor: the dial, None where strengths were given directly or the network is blind.
        input_factor: how many times fewer pixels than the result the input has, estimated from the picture.
        seed: of this face's noise.
        batch: faces that were in the same pass (it can move the last bit of the arithmetic).
        consistency: of the result with its input, if measured.
        cost: of locking, if locked.
        mean, spread: over the draws: mean picture and heat map, BGR; `largest_spread` in 8-bit steps is the heat
            map's light end.
        strength: what was given instead of a factor: a number, one per level, or the face's map (S, S).
    """

    factor: float | None
    input_factor: float
    seed: int
    batch: int
    consistency: Consistency | None = None
    cost: LockCost | None = None
    mean: np.ndarray | None = field(default=None, repr=False)
    spread: np.ndarray | None = field(default=None, repr=False)
    largest_spread: float | None = None
    strength: Strength | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        numbers: dict[str, Any] = {
            "factor": self.factor, "input_factor": round(self.input_factor, 3), "seed": self.seed, "batch": self.batch,
        }  # fmt: skip
        if isinstance(self.strength, float):
            numbers["s"] = self.strength
        if self.consistency:
            numbers["consistency"] = asdict(self.consistency)
        if self.cost:
            numbers["lock"] = self.cost.as_dict()
        if self.largest_spread is not None:
            numbers["largest_spread"] = round(self.largest_spread, 3)
        return numbers


class FaceRunner:
    """Restores batches of aligned faces under one setting and keeps a record of each; `photo.FaceRestorer` as well."""

    def __init__(self, restorer: Restorer, settings: Settings | None = None) -> None:
        self.restorer, self.settings = restorer, settings or Settings()
        self.out_size = restorer.out_size
        self.records: list[FaceRecord] = []
        if restorer.blind and (self.settings.factor != "auto" or self.settings.s is not None):
            restorer.strength(np.empty(0), self.settings.factor, self.settings.s)  # raises: a blind one has no dial

    def estimate(self, crop: np.ndarray, scale: float = 1.0) -> float:
        """The factor to use for one face, given how many times its alignment enlarged it (1 for a picture as it is)."""
        if self.settings.factor != "auto":
            return float(self.settings.factor)
        return clip_factor(max(estimate_factor(crop, self.out_size), scale), self.restorer)

    def restore_faces(
        self, crops: Sequence[np.ndarray], factors: Sequence[float], maps: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Restores a batch, each face at its own factor or by its own map of strengths; gray faces stay gray.

        Appends to `records`.
        """
        settings, direct = self.settings, self.settings.s is not None or self.restorer.blind
        strengths = maps or [settings.s if direct else strength_of_factor(f, self.restorer) for f in factors]
        seeds = [picture_seed(crop, settings.seed, settings.noise) for crop in crops]
        results = []
        outputs = self.restorer.run_batch(crops, strengths, settings.noise, seeds)
        for crop, factor, strength, seed, output in zip(crops, factors, strengths, seeds, outputs, strict=True):
            result = keep_gray(output, crop)
            record = FaceRecord(None if direct else factor, estimate_factor(crop, self.out_size), seed, len(crops))
            record.strength = strength if direct else None
            shrink = max(record.input_factor, self.restorer.min_factor)  # a sharper input leaves nothing to restore
            if settings.lock:
                result, record.cost = lock(result, crop, shrink)
            if settings.measure:
                record.consistency = consistency(result, crop, shrink)
            if settings.draws:
                record.mean, record.spread, record.largest_spread = self.draw(crop, strength, seed)
            self.records.append(record)
            results.append(result)
        return results

    def draw(self, crop: np.ndarray, strength: Strength | None, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean and heat map of the spread (standard deviation, mean of channels) over noise draws; encodes once.

        Returns:
            mean (S, S, 3), heat map (S, S, 3) uint8 from black (none) over violet and orange to light yellow (the most,
            but at least one 8-bit step), and the largest spread in 8-bit steps.
        """
        features = self.restorer.encode(crop)
        draws = [
            self.restorer.decode_tensor(features, strength, "random", seed + k) for k in range(self.settings.draws)
        ]
        stacked = torch.stack(draws).clamp(-1, 1).double() * 127.5  # (draws, 3, S, S) in 8-bit steps
        deviation = stacked.std(0, correction=0).mean(0).cpu().numpy()
        largest = float(deviation.max())
        heat = (deviation / max(largest, 1.0) * 255).round().astype(np.uint8)
        mean = keep_gray(picture(stacked.mean(0) / 127.5, crop), crop)
        return mean, cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), largest


def keep_gray(restored: np.ndarray, given: np.ndarray) -> np.ndarray:
    """A gray input (three equal channels) gets a gray result: its luma in every channel."""
    if given.ndim != 3 or (given[..., :1] != given[..., 1:3]).any():
        return restored
    return np.repeat(cv2.cvtColor(restored, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)


def restore_photograph(restorer: Restorer, image: np.ndarray, detector: Any, options: dict[str, Any]) -> Any:
    """`Restorer.photo`: splits its options between the dial and the photograph, and chooses a detector."""
    from gcfsr_inference.photo.detect import build_detector, find_detector
    from gcfsr_inference.photo.photograph import PhotoOptions, restore_photo

    dial = {key: options.pop(key) for key in ("factor", "s", "noise", "seed") if key in options}
    detector = detector or find_detector()
    try:
        chosen = PhotoOptions(**options)
    except TypeError as error:
        raise GCFSRError(f"photo: {str(error).split('() ')[-1]}") from None
    settings, finds = Settings(**dial), build_detector(detector) if isinstance(detector, str) else detector
    strengths = settings.s if isinstance(settings.s, np.ndarray) and settings.s.ndim == 2 else None
    return restore_photo(image, FaceRunner(restorer, settings), finds, chosen, strengths=strengths)
