"""A `Restorer` under one setting, face by face: what aligned files, photographs and video share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.restore.arrays import blended, network_output
from gcfsr_inference.restore.consistency import Consistency, LockCost, consistency, lock
from gcfsr_inference.restore.dial import (
    check_blend,
    check_count,
    check_seed,
    clip_factor,
    parse_factor,
    strength_of_factor,
)
from gcfsr_inference.restore.hashes import image_seed
from gcfsr_inference.restore.restorer import Restorer, Setting, Strength

BLIND_LEAST = 1.25  # a blind network states no least factor; below this it worsens clean faces and worn ones


@dataclass(frozen=True)
class Settings:
    """How faces are restored.

    Attributes:
        factor: "auto" or a factor; "auto" where `s` is given.
        s: a strength for every face: a number, one per level, or a map (H, W).
        dials: settings of the other conditions by name, numbers or "auto"; those left out are "auto" where the network
            estimates them, otherwise 0.
        noise, seed: as in `Restorer.restore`.
        measure: compare each result with its input.
        lock: project each result back onto its input.
        draws: noise draws per face for `FaceRecord.spread`; 0 makes none.
        blend: of aligned faces: between the input, enlarged (0), and the result (1). A photograph's faces are blended
            as they are pasted: `photo.photograph.PhotoOptions.blend`.

    Raises:
        GCFSRError: a seed, count of draws or blend out of range, a factor that is no number, or both factor and s.
    """

    factor: float | str = "auto"
    s: Setting | None = None
    dials: Mapping[str, float | str] = field(default_factory=dict)
    noise: str = "fixed"
    seed: int = 0
    measure: bool = False
    lock: bool = False
    draws: int = 0
    blend: float = 1.0

    def __post_init__(self) -> None:
        parse_factor(self.factor, self.s)
        check_seed(self.seed)
        check_count("draws", self.draws, 0)
        check_blend(self.blend)


class FaceInput(NamedTuple):
    """One aligned face to restore.

    Attributes:
        crop: (S, S[, 3 or 4]) of uint8 or uint16, BGR.
        input_factor: how many times fewer pixels than the result it really has, at least 1: estimated from the
            image, or by how much its alignment enlarged it if that is more.
        factor: where the dial is set for it.
        strengths: (S, S) in [0, 1] instead of the factor.
        least_factor: the least input factor at which the network helps; None where the dial was given by hand.
    """

    crop: np.ndarray
    input_factor: float
    factor: float
    strengths: np.ndarray | None = None
    least_factor: float | None = None


@dataclass
class FaceRecord:
    """What was done to one face.

    Attributes:
        factor: the dial, None where strengths were given directly or the network is blind.
        input_factor: of `FaceInput`.
        seed: of this face's noise.
        batch: faces that were in the same pass (it can move the last bit of the arithmetic).
        consistency: of the result with its input, if measured.
        cost: of locking, if locked.
        largest_spread: over the noise draws, if any were made, in 8-bit steps.
        shrink: by how much result and input are reduced to be compared: the input factor, or the network's least one.
        strength: what was given instead of a factor: a number, one per level, or the face's map (S, S).
        conditions: the dials of a network of several conditions, but the factor's.
    """

    factor: float | None
    input_factor: float
    seed: int
    batch: int
    consistency: Consistency | None = None
    cost: LockCost | None = None
    largest_spread: float | None = None
    shrink: float = 1.0
    strength: Setting | None = field(default=None, repr=False)
    conditions: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        numbers: dict[str, Any] = {
            "factor": self.factor, "input_factor": round(self.input_factor, 3), "seed": self.seed, "batch": self.batch,
        }  # fmt: skip
        if isinstance(self.strength, float):
            numbers["s"] = self.strength
        if self.conditions:
            numbers["conditions"] = {name: round(value, 4) for name, value in self.conditions.items()}
        if self.consistency:
            numbers["consistency"] = asdict(self.consistency)
        if self.cost:
            numbers["lock"] = self.cost.as_dict()
        if self.largest_spread is not None:
            numbers["largest_spread"] = round(self.largest_spread, 3)
        return numbers


class Draws(NamedTuple):
    """Several noise draws of one face.

    Attributes:
        mean: (S, S, 3) BGR of the crop's dtype.
        heat: (S, S, 3) BGR uint8 map of the spread (standard deviation, mean of channels) from black (none) over violet
            and orange to light yellow (the most, but at least one 8-bit step).
        largest: the largest spread in 8-bit steps.
    """

    mean: np.ndarray
    heat: np.ndarray
    largest: float


class FaceResult(NamedTuple):
    """A restored face, what was done to it, and its noise draws if any were asked for."""

    image: np.ndarray
    record: FaceRecord
    draws: Draws | None = None


class FaceRunner:
    """Restores batches of aligned faces under one setting; a `photo.photograph.FaceRestorer`.

    Args:
        restorer: the network.
        settings: the defaults of `Settings` if none are given.
        remember: restore face by face from the features that the restorer keeps: a face that is restored again at
            another factor is only decoded.

    Raises:
        GCFSRError: a factor or strength for a blind network, or a dial that the network does not have.
    """

    def __init__(self, restorer: Restorer, settings: Settings | None = None, remember: bool = False) -> None:
        self.restorer, self.settings, self.remember = restorer, settings or Settings(), remember
        self.out_size = restorer.out_size
        self.least_factor = BLIND_LEAST if restorer.blind else restorer.min_factor
        self.factor = parse_factor(self.settings.factor)
        if restorer.blind and (self.factor != "auto" or self.settings.s is not None):
            restorer.strength(np.empty(0), self.factor, self.settings.s)  # raises: a blind one has no dial
        for name in self.settings.dials:
            if name not in restorer.conditions[1:]:
                names = ", ".join(restorer.conditions)
                raise GCFSRError(f"{name}: this checkpoint has no dial for it; it has {names}")

    def prepare(self, crop: np.ndarray, scale: float = 1.0, factor: float | None = None) -> FaceInput:
        """Estimates what one face holds, and sets its dial.

        Args:
            crop: the aligned face.
            scale: how many times its alignment enlarged it (1 for an image as it is).
            factor: a known factor for this face; otherwise the settings decide.
        """
        input_factor = max(self.restorer.estimate_factor(crop), scale)
        if factor is None and not isinstance(self.factor, str):
            factor = self.factor
        least = self.least_factor if factor is None and self.settings.s is None else None
        if factor is None:
            factor = clip_factor(input_factor, self.restorer)
        return FaceInput(crop, input_factor, factor, least_factor=least)

    def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
        """Restores a batch, each face at its own factor or by its own map of strengths."""
        settings, crops = self.settings, [face.crop for face in faces]
        strengths = [self._strength(face) for face in faces]
        seeds = [image_seed(crop, settings.seed, settings.noise) for crop in crops]
        images, strengths = self._images(crops, strengths, seeds)
        return [
            self._finish(face, FaceRecord(self._dial(face), face.input_factor, seed, len(faces)), strength, image)
            for face, seed, strength, image in zip(faces, seeds, strengths, images, strict=True)
        ]

    def _images(
        self, crops: Sequence[np.ndarray], strengths: Sequence[Strength | None], seeds: Sequence[int]
    ) -> tuple[list[np.ndarray], list[Strength | None]]:
        """The network's outputs, and the strengths as of `run_with_strengths`; one pass unless faces are remembered."""
        restorer, noise = self.restorer, self.settings.noise
        if not self.remember:
            return restorer.run_with_strengths(crops, strengths, noise, seeds)
        images, used = [], []
        for crop, strength, seed in zip(crops, strengths, seeds, strict=True):
            features = restorer.encode(crop)
            (s,) = restorer.settled([strength], features)
            images.append(restorer.decode(features, s, noise=noise, seed=seed, like=crop))
            used.append(s)
        return images, used

    def _strength(self, face: FaceInput) -> Strength | None:
        if self.restorer.blind:
            return self.settings.s
        own = self.settings.s if face.strengths is None else face.strengths
        own = strength_of_factor(face.factor, self.restorer) if own is None else own
        if len(self.restorer.conditions) == 1:
            return own
        return self.restorer.strength(face.crop, s={"factor": own, **self.settings.dials})

    def _dial(self, face: FaceInput) -> float | None:
        direct = face.strengths is not None or self.settings.s is not None or self.restorer.blind
        return None if direct else face.factor

    def _finish(self, face: FaceInput, record: FaceRecord, strength: Strength | None, image: np.ndarray) -> FaceResult:
        """Locks, measures and draws, as the settings ask."""
        settings, draws = self.settings, None
        own: Any = strength
        if isinstance(strength, Mapping):
            record.conditions = {
                name: float(cast(float, value)) for name, value in strength.items() if name != "factor"
            }
            own = strength["factor"]
        record.strength = own if record.factor is None else None
        record.shrink = max(record.input_factor, self.restorer.min_factor)  # a sharper input leaves nothing to restore
        if settings.lock:
            image, record.cost = lock(image, face.crop, record.shrink)
        image = blended(image, face.crop, settings.blend)
        if settings.measure:
            record.consistency = consistency(image, face.crop, record.shrink)
        if settings.draws:
            draws = self.draw(face.crop, strength, record.seed)
            record.largest_spread = draws.largest
        return FaceResult(image, record, draws)

    def draw(self, crop: np.ndarray, strength: Strength | None, seed: int) -> Draws:
        """Restores one face `settings.draws` times, each with its own noise; encodes once."""
        features = self.restorer.encode(crop)
        draws = [
            self.restorer.decode_tensor(features, strength, "random", seed + k) for k in range(self.settings.draws)
        ]
        stacked = torch.stack(draws).clamp(-1, 1).double() * 127.5  # (draws, 3, S, S) in 8-bit steps
        deviation = stacked.std(0, correction=0).mean(0).cpu().numpy()
        largest = float(deviation.max())
        heat = (deviation / max(largest, 1.0) * 255).round().astype(np.uint8)
        mean = network_output(stacked.mean(0) / 127.5, crop)
        return Draws(mean, cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), largest)
