"""The one path from an aligned face to a restored one: network input, strength, noise, network, output.

Everything that restores calls it: `gcfsr restore`, photographs and video, `evaluate`, figures, sweeps and the page.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

from gcfsr_arch.conditions import per_condition
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.backends.backend import Backend, choose_backend
from gcfsr_inference.restore.arrays import blended, check_face, network_input, network_output
from gcfsr_inference.restore.autofactor import estimate_factor
from gcfsr_inference.restore.dial import (
    TORCH_SEED,
    check_blend,
    check_seed,
    check_strengths,
    clip_factor,
    parse_factor,
    strength_of_factor,
)
from gcfsr_inference.restore.hashes import array_hash, file_hash, image_seed
from gcfsr_inference.restore.weights import resolve_checkpoint

NOISES = ("fixed", "random", "zero")
Setting = float | Sequence[float] | np.ndarray  # one number, one per level, or a map (H, W)
Strength = Setting | Mapping[str, "Setting | str"]  # of the factor's dial, or by condition, where a word is "auto"


def to_be_read(s: Strength | None) -> TypeGuard[Mapping[str, Any]]:
    """Whether a condition is to be read from the image."""
    return isinstance(s, Mapping) and any(isinstance(value, str) for value in s.values())


class Restorer:
    """Restores aligned faces at any strength.

    Images are arrays (H, W), (H, W, 3) BGR or (H, W, 4) BGRA of uint8 or uint16 and roughly square; results have the
    network's size and the input's kind (depth, gray or colour, alpha).

    Several threads may call one instance at a time: the results are those of each call alone, bit for bit. One encodes
    at a time, so that an image that several of them ask for is encoded once.

    Args:
        backend: an opened network, see `backends`.
        path: the checkpoint's file, for its hash.
        kept: how many faces' features `encode` keeps for the next call.
    """

    def __init__(self, backend: Backend, path: Path | None = None, kept: int = 1) -> None:
        self.backend, self.path, self.kept = backend, path, kept
        self.out_size, self.sizes, self.blind = backend.out_size, backend.sizes, backend.blind
        self.min_factor, self.max_factor = backend.min_factor, backend.max_factor
        self.conditions = backend.conditions
        self._features: OrderedDict[str, Any] = OrderedDict()
        self._lock = Lock()  # of `_features`

    @classmethod
    def load(
        cls,
        path: str | os.PathLike | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        backend: str = "torch",
        compiled: bool = False,
        kept: int = 1,
    ) -> "Restorer":
        """Loads a checkpoint.

        Args:
            path: a file, a bundled name or a name in the user's weights folder; None is the bundled default.
            device: "auto" (CUDA where there is any, else the CPU), "cpu", "cuda", "cuda:N" or "mps".
            dtype: "fp32" or "bf16".
            backend: "torch", "onnx" or "openvino".
            compiled: PyTorch only: run through `torch.compile`.
            kept: see the class.

        Raises:
            GCFSRError: no such file, not a checkpoint of this network, or a device or backend that is not available.
        """
        file = resolve_checkpoint(path)
        return cls(choose_backend(backend, file, device, dtype, compiled), file, kept)

    @cached_property
    def checkpoint_hash(self) -> str:
        """SHA-256 of the checkpoint file, "" for a network that came from no file."""
        return "" if self.path is None else file_hash(self.path)

    def restore(
        self,
        image: np.ndarray,
        factor: float | str = "auto",
        s: Strength | str | None = None,
        noise: str = "fixed",
        seed: int = 0,
        blend: float = 1.0,
    ) -> np.ndarray:
        """Restores one aligned face; its features are kept for the next call with the same image.

        Args:
            image: the face, see the class.
            factor: upscaling factor in [min_factor, max_factor], or "auto" (estimated from the image).
            s: strength in [0, 1] instead of `factor`: a number, one number per level (16 pixels first), or a map. For a
                network of several conditions also a dictionary such as {"factor": 0.5, "noise": "auto"}; what it
                leaves out is read from the image, as "auto" says.
            noise: "fixed", "random" (a new one per seed and image) or "zero".
            seed: chooses the noise; the same call gives the same result.
            blend: between the input, enlarged (0), and the result (1).

        Returns:
            The restored face, (out_size, out_size[, 3 or 4]), same dtype as the input.

        Raises:
            GCFSRError: an image that is not an aligned face, a value out of range, or both factor and s.
        """
        check_blend(blend)
        features, seed = self.encode(image), image_seed(image, seed, noise)
        strength = self.settled([self.strength(image, factor, s)], features)[0]
        return blended(self.decode(features, strength, noise=noise, seed=seed, like=image), image, blend)

    def restore_batch(
        self,
        images: Sequence[np.ndarray],
        factor: float | str = "auto",
        s: Strength | str | None = None,
        noise: str = "fixed",
        seed: int = 0,
    ) -> list[np.ndarray]:
        """`restore` of several images in one pass; sizes and kinds may differ. Arguments as there."""
        strengths = [self.strength(image, factor, s) for image in images]
        return self.run_batch(images, strengths, noise, [image_seed(image, seed, noise) for image in images])

    def restore_at(
        self,
        image: np.ndarray,
        factors: Sequence[float],
        noise: str = "fixed",
        seed: int = 0,
        dials: Mapping[str, float | str] | None = None,
    ) -> list[np.ndarray]:
        """`restore` of one image at several factors; the encoder runs once. Arguments as there.

        `dials` sets other conditions by name, for a network that has them.

        Raises:
            GCFSRError: as of `restore`, or factors that are no list.
        """
        try:
            listed = list(factors)
        except TypeError:
            raise GCFSRError(f"factors {str(factors)!r:.60}: pass a list of numbers") from None
        strengths = [self.strength(image, factor, dials or None) for factor in listed]
        features, seed = self.encode(image), image_seed(image, seed, noise)
        used = [self.settled([s], features)[0] for s in strengths]
        return [self.decode(features, s, noise=noise, seed=seed, like=image) for s in used]

    def run_batch(
        self, images: Sequence[np.ndarray], strengths: Sequence[Strength | None], noise: str, seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """One pass over images with a strength and a seed each (see `strength` and `image_seed`)."""
        return self.run_with_strengths(images, strengths, noise, seeds)[0]

    def run_with_strengths(
        self, images: Sequence[np.ndarray], strengths: Sequence[Strength | None], noise: str, seeds: Sequence[int]
    ) -> tuple[list[np.ndarray], list[Strength | None]]:
        """`run_batch`, and the strengths with what was read from the images in place of "auto"."""
        if not images:
            return [], []
        x, used = torch.cat([self.input(image) for image in images]), [self._complete(s) for s in strengths]
        if any(to_be_read(s) for s in used):
            features = self.encode(images[0]) if len(images) == 1 else self.backend.encode(x)
            used = self.settled(used, features)
            out = self.backend.decode(features, self.stack(used), self.noise(noise, seeds), seeds[0])
        else:
            out = self.backend.restore(x, self.stack(used), self.noise(noise, seeds), seeds[0])
        return [network_output(face, image) for face, image in zip(out, images, strict=True)], used

    def settled(self, strengths: Sequence[Strength | None], features: Any) -> list[Strength | None]:
        """The strengths of N images with every condition, and `Estimate.dials` of each image in place of "auto".

        Raises:
            GCFSRError: the network has no estimator, or its backend does not run it.
        """
        strengths = [self._complete(s) for s in strengths]
        if not any(to_be_read(s) for s in strengths):
            return strengths
        found = self.backend.estimate(features).dials().cpu().tolist()
        read = [dict(zip(self.conditions, row, strict=True)) for row in found]
        return [
            {name: own[name] if isinstance(value, str) else value for name, value in s.items()} if to_be_read(s) else s
            for s, own in zip(strengths, read, strict=True)
        ]

    def input(self, image: np.ndarray) -> Tensor:
        """The network's input, (1, 3, out_size, out_size): see `arrays.network_input`.

        Raises:
            GCFSRError: an image that is not an aligned face.
        """
        check_face(image)
        return network_input(image, self.out_size, self.backend.rounded_input)

    def encode(self, image: np.ndarray) -> Any:
        """Features of one face, which do not depend on the dial; kept for the next call with the same image."""
        check_face(image)
        key = array_hash(image)
        with self._lock:
            if key not in self._features:
                while len(self._features) >= self.kept:
                    self._features.popitem(last=False)  # first release the oldest: features are large
                self._features[key] = self.backend.encode(self.input(image))
            self._features.move_to_end(key)
            return self._features[key]

    def decode(
        self,
        features: Any,
        s: Strength | None = None,
        factor: float | None = None,
        noise: str = "fixed",
        seed: int = 0,
        like: np.ndarray | None = None,
    ) -> np.ndarray:
        """Makes the face from `encode`'s features.

        Args:
            features: of one face.
            s: strength, as in `restore`; or give `factor`. A blind network takes neither.
            factor: upscaling factor in [min_factor, max_factor].
            noise: as in `restore`.
            seed: as in `restore`, except that the image does not enter "random".
            like: the input image, for its kind and alpha; None makes BGR uint8.

        Raises:
            GCFSRError: neither or both of s and factor, one of them for a blind network, or a value out of range.
        """
        given = (s is not None) + (factor is not None)
        if self.blind and given:
            raise GCFSRError("decode: this checkpoint is blind: it has no dial; leave out s and factor")
        if not self.blind and given != 1:
            raise GCFSRError("decode: pass s or factor, and not both")
        s = s if factor is None else strength_of_factor(factor, self)
        return network_output(self.decode_tensor(features, s, noise, seed), like)

    def decode_tensor(self, features: Any, s: Strength | None, noise: str, seed: int) -> Tensor:
        """`decode` before it becomes an image: (3, out_size, out_size) RGB in [-1, 1] except for overshoot."""
        used = self.settled([s], features)
        return self.backend.decode(features, self.stack(used), self.noise(noise, [seed]), seed)[0]

    def strength(
        self, image: np.ndarray, factor: float | str = "auto", s: Strength | str | None = None
    ) -> Strength | None:
        """The strength that `factor` or `s` mean for an image; None for a blind network.

        s may set other conditions beside `factor`. The factor's "auto" is settled here, by `estimate_factor`. With
        several conditions the result is a dictionary of all of them, in which others may be "auto" (see `settled`):
        those that s leaves out, where the network estimates them, otherwise 0.

        Raises:
            GCFSRError: out of range, an unknown condition, factor and an s that sets it, or a dial for a blind network.
        """
        factor = parse_factor(factor, s)
        if self.blind:
            if s is not None or factor != "auto":
                raise GCFSRError("this checkpoint is blind: it has no dial; leave out --factor, --s and -w")
            return None
        by_name = s if isinstance(s, Mapping) else {} if s is None or isinstance(s, str) else {"factor": s}
        if isinstance(s, str) and s != "auto":
            raise GCFSRError(f"s: {s!r}; pass 'auto', numbers in [0, 1], or a dictionary by condition")
        own = by_name.get("factor", "auto")
        if isinstance(own, str) and own == "auto":
            if factor == "auto":
                factor = clip_factor(self.estimate_factor(image), self)
            own = strength_of_factor(cast(float, factor), self)
        return self._complete({**by_name, "factor": own})

    def estimate_factor(self, image: np.ndarray) -> float:
        """How many times fewer pixels than the result an image really has: where "auto" sets the factor's dial.

        The spectrum's estimate, or what the network reads if it has an estimator and that is less. Both take blur for
        missing pixels, seldom by as much (docs/dials.md). At least 1; it is not clipped to what the network serves.

        Raises:
            GCFSRError: an image that is not an aligned face.
        """
        check_face(image)
        spectral = estimate_factor(image, self.out_size)
        if not self.backend.estimates:
            return spectral
        read = float(self.backend.estimate(self.encode(image)).mean[0, 0]) * self.max_factor
        return max(1.0, min(spectral, read))

    def _complete(self, s: Strength | None) -> Strength | None:
        """With several conditions a dictionary of all: those left out are read where that works, otherwise 0.

        Raises:
            GCFSRError: an unknown condition, no factor, or a word that is not "auto".
        """
        if s is None or self.blind:
            return s
        by_name: Mapping[str, Any] = s if isinstance(s, Mapping) else {"factor": s}
        for name, value in by_name.items():
            if name not in self.conditions:
                names = ", ".join(self.conditions)
                raise GCFSRError(f"{name}: this checkpoint has no dial for it; it has {names}")
            if isinstance(value, str) and (value != "auto" or name == "factor"):
                raise GCFSRError(f"{name}: {value!r}; a number in [0, 1]{'' if name == 'factor' else ' or auto'}")
        if "factor" not in by_name:
            raise GCFSRError("s: 'factor' is missing; pass it as factor / max_factor")
        if len(self.conditions) == 1:
            return by_name["factor"]
        rest = "auto" if self.backend.estimates else 0.0
        return {"factor": by_name["factor"]} | {name: by_name.get(name, rest) for name in self.conditions[1:]}

    def stack(self, strengths: Sequence[Strength | None]) -> Tensor | None:
        """Strengths -> (N, 1), (N, levels) or (N, 1, H, W) float32; with k conditions (N, levels, k) or (N, k, H, W).

        Raises:
            GCFSRError: a value outside [0, 1], a wrong count of levels, or none for a network with a dial.
        """
        if self.blind:
            return None
        if len(self.conditions) > 1:
            return self._stack_conditions(strengths)
        rows = [self._checked(s) for s in strengths]
        shapes = {row.shape for row in rows}
        if len(shapes) > 1:
            rows = [np.broadcast_to(row, max(shapes, key=len)) for row in rows]
        stacked = torch.from_numpy(np.stack(rows))
        return stacked[:, None] if stacked.ndim in (1, 3) else stacked

    def _checked(self, s: Any) -> np.ndarray:
        """`check_strengths`. Raises GCFSRError also where a list has another length than the network has levels."""
        values = check_strengths(s)
        if values.ndim == 1 and len(values) != len(self.sizes):
            raise GCFSRError(f"s: {len(values)} values; this network has {len(self.sizes)} levels {self.sizes}")
        return values

    def _stack_conditions(self, strengths: Sequence[Strength | None]) -> Tensor:
        """`stack` for several conditions: (N, levels, k), or (N, k, H, W) where one is a map."""
        rows = []
        for strength in strengths:
            if not isinstance(strength, Mapping):
                raise GCFSRError(f"s: pass a dictionary of {', '.join(self.conditions)}")
            values = {name: self._checked(value) for name, value in strength.items()}
            tensors = {name: torch.from_numpy(v[None, None] if v.ndim == 2 else v[None]) for name, v in values.items()}
            rows.append(per_condition(tensors, self.conditions, len(self.sizes), torch.zeros(1)))
        size = next((row.shape[2:] for row in rows if row.ndim == 4), None)
        if size is not None:
            rows = [row if row.ndim == 4 else row[:, 0, :, None, None].expand(-1, -1, *size) for row in rows]
        return torch.cat(rows)

    def noise(self, noise: str, seeds: Sequence[int]) -> str | list[Tensor]:
        """What a backend takes as noise; "random" becomes maps that depend on each image's own seed only.

        Raises:
            GCFSRError: another word, or a seed that torch does not take.
        """
        for seed in seeds:
            check_seed(seed, TORCH_SEED)
        if noise not in NOISES:
            raise GCFSRError(f"--noise {noise}: one of {', '.join(NOISES)}")
        if noise != "random":
            return noise
        draws = [
            [torch.randn(shape, generator=generator) for shape in self.backend.noise_shapes(1)]
            for generator in (torch.Generator().manual_seed(seed) for seed in seeds)
        ]
        return [torch.cat(maps) for maps in zip(*draws, strict=True)]
