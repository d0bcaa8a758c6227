"""Shared by the backends that run exported graphs: the cache of exports, and a network's inputs as arrays."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

import gcfsr_arch
from gcfsr_arch import GCFSR, load_generator
from gcfsr_arch.conditions import per_condition
from gcfsr_arch.config import GCFSRConfig
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.estimator import Estimate
from gcfsr_arch.files import home_folder, make_folder, write_atomic
from gcfsr_arch.generator import Noise, noise_maps
from gcfsr_inference.backends.export import feature_names
from gcfsr_inference.documents import read_document

CACHE = "~/.cache/gcfsr/exported"

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


class ExportedBackend:
    """A network whose encoder and decoder run elsewhere; `backends.Backend` for a `Restorer`.

    Args:
        config: the network's arguments (`GCFSRConfig.to_dict`).
        encoder: [x] -> [top, w, skips...] and, with an estimator, [mean, deviation]; float32 arrays.
        decoder: [top, w, skips..., s unless blind, noise...] -> [image].
        name: of the backend, for messages.
        whole: [x, s unless blind, noise...] -> [image], where that is faster than one after the other.
    """

    def __init__(self, config: dict[str, Any], encoder: Run, decoder: Run, name: str, whole: Run | None = None) -> None:
        known = GCFSRConfig.from_dict(config)
        with torch.device("meta"):  # for its sizes only
            net = GCFSR(**known.to_dict())
        self.out_size, self.sizes, self.blind = net.out_size, net.sizes, net.blind
        self.min_factor, self.max_factor = net.min_factor, net.max_factor
        self.conditions, self.estimates = net.conditions, net.config.estimator
        self.rounded_input = net.config.variant == "released"
        self.encoder, self.decoder, self.name, self.whole = encoder, decoder, name, whole
        self.noise_shapes = net.noise_shapes
        self.passed = len(feature_names(net))  # of the encoder's outputs, to the decoder

    def encode(self, x: Tensor) -> list[np.ndarray]:
        """(N, 3, out_size, out_size) RGB in [-1, 1] -> features, and what the estimator reads of them."""
        return self.encoder([x.float().cpu().numpy()])

    def decode(self, features: Any, s: Tensor | None, noise: Noise, seed: int | None) -> Tensor:
        """Features of N images, or of one image, at N strengths -> (N, 3, out_size, out_size) RGB.

        Raises:
            GCFSRError: s is a map, which only the torch backend takes.
        """
        batch = max(len(features[0]), 1 if s is None else len(s))
        inputs = [_rows(array, batch) for array in features[: self.passed]]
        return torch.from_numpy(self.decoder([*inputs, *self._dial(batch, s, noise, seed)])[0])

    def estimate(self, features: Any) -> Estimate:
        """See `GCFSR.estimate`."""
        if not self.estimates:
            raise GCFSRError("this network does not estimate its conditions; train one with estimator: true")
        mean, deviation = features[self.passed :]
        return Estimate(torch.from_numpy(mean), torch.from_numpy(deviation))

    def restore(self, x: Tensor, s: Tensor | None, noise: Noise, seed: int | None) -> Tensor:
        """See `backends.Backend.restore`; errors as of `decode`."""
        if self.whole is None:
            return self.decode(self.encode(x), s, noise, seed)
        return torch.from_numpy(self.whole([x.float().cpu().numpy(), *self._dial(len(x), s, noise, seed)])[0])

    def _dial(self, batch: int, s: Tensor | None, noise: Noise, seed: int | None) -> list[np.ndarray]:
        """What the decoder takes besides the features: s unless blind, and every noise map."""
        shapes = self.noise_shapes(batch)
        maps = noise_maps(noise, shapes, seed, torch.zeros(1))
        arrays = [
            np.zeros(shape, np.float32) if m is None else m.numpy() for m, shape in zip(maps, shapes, strict=True)
        ]
        if not self.blind:
            arrays.insert(0, self._levels(s))
        return [_rows(array, batch) for array in arrays]

    def _levels(self, s: Tensor | None) -> np.ndarray:
        if s is None:
            raise GCFSRError("s is missing: this network is not blind; pass s = factor / max_factor")
        if s.ndim > 3:
            raise GCFSRError(f"--s-map: the backend {self.name} takes one strength per face; use --backend torch")
        levels = per_condition(s.float().cpu(), self.conditions, len(self.sizes), torch.zeros(1)).numpy()
        return levels if len(self.conditions) > 1 else levels[:, :, 0]


def cached(path: Path, form: str, write: Callable[[GCFSR, Path], None], made: Sequence[str]) -> tuple[dict, Path]:
    """The exported form of a checkpoint, made on first use and kept in ~/.cache/gcfsr/exported.

    Args:
        path: the checkpoint.
        form: name of the form; part of the file's name.
        write: (network, stem) writes the files `stem + suffix` of `made`.
        made: the suffixes of the files.

    Returns:
        The network's arguments and the stem.

    Raises:
        GCFSRError: the checkpoint cannot be loaded or the cache not be written.
    """
    digest = hashlib.sha256(f"{gcfsr_arch.__version__} {torch.__version__}".encode())
    try:
        digest.update(path.read_bytes())
    except OSError as error:
        raise GCFSRError(f"{path}: cannot be read ({error.strerror})") from error
    folder = home_folder(CACHE)
    stem, note = folder / f"{digest.hexdigest()[:24]}.{form}", folder / f"{digest.hexdigest()[:24]}.{form}.json"
    if all(file.is_file() for file in (note, *(stem.with_name(stem.name + suffix) for suffix in made))):
        with suppress(GCFSRError):  # a damaged note is rewritten
            found = read_document(note, TypeAdapter(dict[str, Any]), "the arguments of a network")
            return GCFSRConfig.from_dict(found).to_dict(), stem
    net = load_generator(path)
    make_folder(folder, "the cache of exports")
    write(net, stem)
    write_atomic(note, json.dumps(net.config.to_dict()).encode())  # last: it marks the others as complete
    return net.config.to_dict(), stem


def _rows(array: np.ndarray, batch: int) -> np.ndarray:
    """One row for all, or as it is."""
    return np.ascontiguousarray(np.broadcast_to(array, (batch, *array.shape[1:])))
