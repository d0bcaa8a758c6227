"""The interface of the runtimes of a network, and the PyTorch one; ONNX Runtime and OpenVINO are beside it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gcfsr_arch import GCFSR, load_generator
from gcfsr_arch.devices import choose_device, has_bf16
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.estimator import Estimate

# name: module with a function open_backend(path, device, dtype, compiled) -> Backend
BACKENDS = {
    "torch": "gcfsr_inference.backends.backend",
    "onnx": "gcfsr_inference.backends.onnx_backend",
    "openvino": "gcfsr_inference.backends.openvino_backend",
}
DTYPES = ("fp32", "bf16")


class Backend(Protocol):
    """What a `Restorer` needs. Tensors in and out are float32 on the CPU or the backend's own device."""

    out_size: int
    sizes: list[int]
    min_factor: float
    max_factor: float
    blind: bool
    conditions: tuple[str, ...]  # what s holds, the factor first
    estimates: bool  # whether `estimate` works
    rounded_input: bool  # trained on an enlarged image of 8 bits, as the released form is

    def noise_shapes(self, batch: int = 1) -> list[tuple[int, ...]]:
        """(batch, 1, r, r) of each noise map in order."""
        ...

    def encode(self, x: Tensor) -> Any:
        """(N, 3, out_size, out_size) RGB in [-1, 1] -> features, which only this backend's `decode` reads."""
        ...

    def decode(self, features: Any, s: Tensor | None, noise: str | list[Tensor], seed: int | None) -> Tensor:
        """Features -> (N, 3, out_size, out_size) RGB; s, noise and seed as `GCFSR.decode` takes them."""
        ...

    def estimate(self, features: Any) -> Estimate:
        """The conditions that the features tell, (N, k) in [0, 1]; only where `estimates`."""
        ...

    def restore(self, x: Tensor, s: Tensor | None, noise: str | list[Tensor], seed: int | None) -> Tensor:
        """`decode(encode(x), s, noise, seed)`, for an image whose features nothing else needs."""
        ...


class TorchBackend:
    """A `GCFSR` network in PyTorch.

    Args:
        net: the network; it is moved to `device` and set to evaluation.
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: "fp32" or "bf16" (autocast: weights stay in float32, convolutions run in bfloat16).
        compiled: run encode and decode through `torch.compile`.

    Raises:
        GCFSRError: the device is not available, or the dtype is unknown.
    """

    def __init__(self, net: GCFSR, device: str = "cpu", dtype: str = "fp32", compiled: bool = False) -> None:
        if dtype not in DTYPES:
            raise GCFSRError(f"--dtype {dtype}: one of {', '.join(DTYPES)}")
        self.device = check_device(device)
        self.bf16 = dtype == "bf16"
        self.net = net.to(memory_format=torch.channels_last).to(self.device).eval()  # as convolutions want the weights
        self.out_size, self.sizes, self.blind = net.out_size, net.sizes, net.blind
        self.min_factor, self.max_factor = net.min_factor, net.max_factor
        self.conditions, self.estimates = net.conditions, net.config.estimator
        self.rounded_input = net.config.variant == "released"
        self._encode: Callable = torch.compile(net.encode) if compiled else net.encode
        self._decode: Callable = torch.compile(net.decode) if compiled else net.decode

    def noise_shapes(self, batch: int = 1) -> list[tuple[int, ...]]:
        """See `GCFSR.noise_shapes`."""
        return self.net.noise_shapes(batch)

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Any:
        """See `GCFSR.encode`."""
        with self._precision():
            return self._encode(x.to(self.device))

    @torch.inference_mode()
    def decode(self, features: Any, s: Tensor | None, noise: str | list[Tensor], seed: int | None) -> Tensor:
        """See `GCFSR.decode`; always float32."""
        with self._precision():
            return self._decode(features, None if s is None else s.to(self.device), noise, seed).float()

    @torch.inference_mode()
    def estimate(self, features: Any) -> Estimate:
        """See `GCFSR.estimate`."""
        return self.net.estimate(features)

    def restore(self, x: Tensor, s: Tensor | None, noise: str | list[Tensor], seed: int | None) -> Tensor:
        """See `Backend.restore`."""
        return self.decode(self.encode(x), s, noise, seed)

    def _precision(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()


def precision_note(backend: str, device: str, dtype: str) -> str:
    """A warning where the device emulates or ignores bf16, or ""."""
    if dtype != "bf16" or has_bf16(check_device(device)):
        return ""
    slow = "computes in fp32 anyway" if backend == "openvino" else "emulates it, many times slower than fp32"
    return f"--dtype bf16: this device has no bf16 arithmetic and {slow}; leave it out"


def check_device(name: str) -> torch.device:
    """The torch device of a name.

    Raises:
        GCFSRError: an unknown name or a device that this machine does not have.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise GCFSRError(f"--device {name}: auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": lambda: True,
        "cuda": lambda: torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": lambda: torch.backends.mps.is_available(),
    }
    if device.type not in available or not available[device.type]():
        raise GCFSRError(f"--device {name}: not available on this machine; use --device cpu")
    return device


def open_backend(path: Path, device: str = "cpu", dtype: str = "fp32", compiled: bool = False) -> Backend:
    """The PyTorch backend of a checkpoint file."""
    return TorchBackend(load_generator(path), device, dtype, compiled)


def choose_backend(name: str, path: Path, device: str = "auto", dtype: str = "fp32", compiled: bool = False) -> Backend:
    """Opens a checkpoint with the backend of that name.

    Raises:
        GCFSRError: the name is unknown, or its extra is not installed.
    """
    if name not in BACKENDS:
        raise GCFSRError(f"--backend {name}: one of {', '.join(BACKENDS)}")
    try:
        module = import_module(BACKENDS[name])
    except ModuleNotFoundError as error:
        raise GCFSRError(f"--backend {name}: {error.name} is not installed; pip install 'gcfsr[{name}]'") from error
    return module.open_backend(path, choose_device(device, name), dtype, compiled)
