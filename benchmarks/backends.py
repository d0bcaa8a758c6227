"""Backends side by side in one process: `python benchmarks/backends.py [--sizes 512 1024] [--runs 5] [--faces FOLDER]`.

The reference (`gcfsr_arch.reference`), PyTorch, ONNX Runtime and OpenVINO hold the same parameters and take turns.
With a folder of faces, the error of each against PyTorch in fp32 is measured on the bundled checkpoint.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from timing import interleaved, machine, table

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.devices import has_bf16
from gcfsr_arch.reference import generate
from gcfsr_inference import Restorer
from gcfsr_inference.backends import exported
from gcfsr_inference.backends.backend import Backend, choose_backend
from inference import by_default

FP32 = (("torch", "fp32"), ("onnx", "fp32"), ("openvino", "fp32"))
CHOICES = (*FP32, ("torch", "bf16"), ("openvino", "bf16")) if has_bf16(torch.device("cpu")) else FP32


def speed(size: int, runs: int, folder: Path) -> list[tuple[str, ...]]:
    """Whole pass and a further s of every backend at one size, against the reference and against PyTorch in fp32."""
    torch.manual_seed(0)
    net = GCFSR(size, variant="released", blind=size == 512).eval()
    path = folder / f"{size}.safetensors"
    save_generator(net, path)
    x, s = torch.rand(1, 3, size, size) * 2 - 1, None if net.blind else torch.tensor([[0.5]])
    noise = [torch.randn(shape) for shape in net.noise_shapes()]

    def dial(backend: Backend) -> Callable[[], object]:
        features = backend.encode(x)
        return lambda: backend.decode(features, s, noise, None)

    plain = by_default(lambda: generate(net, x, 0.5, noise))
    candidates: dict[str, Callable[[], object]] = {"reference": plain}
    for name, dtype in CHOICES:
        backend = choose_backend(name, path, dtype=dtype)
        candidates[f"{name} {dtype}"] = lambda b=backend: b.restore(x, s, noise, None)
        candidates[f"{name} {dtype}, further s"] = dial(backend)
    with torch.inference_mode():
        seconds = interleaved(candidates, runs)
    rows = []
    for name, dtype in CHOICES:
        whole, further = seconds[f"{name} {dtype}"], seconds[f"{name} {dtype}, further s"]
        ratios = seconds["reference"] / whole, seconds["torch fp32"] / whole, further / whole
        rows.append((str(size), f"{name} {dtype}", *(f"{ratio:.2f}x" for ratio in ratios)))
    return rows


def error(faces: Path, count: int = 15) -> list[tuple[str, ...]]:
    """PSNR and largest difference of every backend from PyTorch in fp32, on real images at factor 8."""
    images = [cv2.imread(str(path)) for path in sorted(faces.glob("lon_*"))[:count]]
    expected, rows = None, []
    for name, dtype in CHOICES:
        restorer = Restorer.load(backend=name, dtype=dtype)
        results = []
        for image in images:
            small = cv2.resize(image, (restorer.out_size // 8,) * 2, interpolation=cv2.INTER_AREA)
            results.append(restorer.restore(small, factor=8).astype(np.float64))
        expected = results if expected is None else expected
        differences = [np.abs(a - b) for a, b in zip(results, expected, strict=True)]
        psnr = [min(100.0, 20 * np.log10(255 / max(np.sqrt(np.square(d).mean()), 1e-9))) for d in differences]
        equal = all((d == 0).all() for d in differences)
        rows.append((
            f"{name} {dtype}", *("equal" if equal else f"{p:.1f} dB" for p in (statistics.mean(psnr), min(psnr))),
            f"{max(d.max() for d in differences):.0f} of 255",
        ))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--faces", type=Path, help="folder of aligned faces, for the error")
    args = parser.parse_args()
    print(f"{machine()}; median of {args.runs}\n")
    with tempfile.TemporaryDirectory() as folder:
        exported.CACHE = folder  # the drawn networks are of no use later
        rows = [("size", "backend", "the reference's speed", "PyTorch fp32's speed", "a further s, share of a pass")]
        for size in args.sizes:
            rows += speed(size, args.runs, Path(folder))
        print(table(rows))
        if args.faces:
            print("\n" + table([("backend", "PSNR, mean", "PSNR, least", "largest difference"), *error(args.faces)]))


if __name__ == "__main__":
    main()
