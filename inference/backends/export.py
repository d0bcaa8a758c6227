"""A network as files for other programs: encoder and decoder, or both as one, in ONNX; and as safetensors.

Graphs are traced by `torch.export` with a dynamic batch. Activations are modulated instead of weights (the form for
batches), so every convolution keeps constant weights, which runtimes lay out once.
"""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcfsr_arch import GCFSR, Features
from gcfsr_arch.config import GCFSRConfig
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_arch.generator import noise_maps
from gcfsr_datasets.image_io import write_bytes_atomic

NOISES = ("input", "fixed", "zero")
OPSET = 18
METADATA = "gcfsr"  # key of the JSON in an ONNX file's metadata


class EncoderGraph(nn.Module):
    """x -> top, w, skips and, of a network with an estimator, mean and deviation (N, k) of its conditions."""

    def __init__(self, net: GCFSR) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.net.encode(x)
        told = () if self.net.estimator is None else self.net.estimate(features)
        return features.top, features.w, *features.skips, *told


class DecoderGraph(nn.Module):
    """(top, w, skips..., s unless blind, noise... if given) -> image; `maps` are constant noise instead."""

    def __init__(self, net: GCFSR, maps: Sequence[Tensor] | None) -> None:
        super().__init__()
        self.net, self.levels = net, len(net.sizes)
        self.constant = maps is not None
        for number, noise in enumerate(maps or ()):
            self.register_buffer(f"noise_{number}", noise)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        top, w, *rest = inputs
        skips, rest = rest[: self.levels], rest[self.levels :]
        s, rest = (None, rest) if self.net.blind else (rest[0], rest[1:])
        noise = list(self.buffers(recurse=False)) if self.constant else list(rest)
        return self.net.decode(Features(top, skips, w), s, noise or "zero")


class WholeGraph(nn.Module):
    """(x, s unless blind, noise... if given) -> image."""

    def __init__(self, net: GCFSR, maps: Sequence[Tensor] | None) -> None:
        super().__init__()
        self.encoder, self.decoder = EncoderGraph(net), DecoderGraph(net, maps)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return self.decoder([*self.encoder(inputs[0])[: 2 + self.decoder.levels], *inputs[1:]])


def feature_names(net: GCFSR | GCFSRConfig) -> list[str]:
    """Names of what the encoder passes to the decoder, in order."""
    return ["top", "w", *(f"skip_{size}" for size in net.sizes)]


def estimate_names(net: GCFSR) -> list[str]:
    """Names of the encoder's further outputs: what its estimator reads of the conditions (`GCFSR.estimate`)."""
    return [] if net.estimator is None else ["read_mean", "read_deviation"]


def dial_names(net: GCFSR, noise: str) -> list[str]:
    """Names of what the decoder takes besides the features: s (N, levels), and noise maps (N, 1, r, r) if inputs."""
    maps = len(net.noise_shapes(1)) if noise == "input" else 0
    return [*([] if net.blind else ["s"]), *(f"noise_{number}" for number in range(maps))]


def trace_encoder(net: GCFSR) -> torch.export.ExportedProgram:
    """The encoder with a dynamic batch."""
    return _trace(EncoderGraph(net), [_example(net)], listed=False)


def trace_decoder(net: GCFSR, noise: str = "input", seed: int = 0) -> torch.export.ExportedProgram:
    """The decoder with a dynamic batch; `noise` and `seed` as in `export_onnx`."""
    with torch.no_grad():
        features = EncoderGraph(net)(_example(net))[: len(feature_names(net))]
    return _trace(DecoderGraph(net, _maps(net, noise, seed)), [*features, *_dial(net, noise)])


def trace_whole(net: GCFSR, noise: str = "input", seed: int = 0) -> torch.export.ExportedProgram:
    """Encoder and decoder as one graph with a dynamic batch."""
    return _trace(WholeGraph(net, _maps(net, noise, seed)), [_example(net), *_dial(net, noise)])


def export_onnx(
    net: GCFSR,
    target: Path,
    parts: str = "two",
    noise: str = "input",
    seed: int = 0,
    on_step: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Writes a network as ONNX; images are (N, 3, S, S) RGB in [-1, 1] at the network's size.

    Inputs are `x`, `s` (N, levels) or, of k conditions, (N, levels, k) in [0, 1] (not for a blind network) and, with
    `noise="input"`, `noise_0`, ... (N, 1, r, r) normal maps; between the two files go `top`, `w` and `skip_16`, ...;
    the output is `image`. The encoder of a network with an estimator has two more outputs, `read_mean` and
    `read_deviation` (N, k): what it reads of the conditions.

    Args:
        net: the network.
        target: NAME.onnx; two parts are NAME.encoder.onnx and NAME.decoder.onnx.
        parts: `two` or `one`.
        noise: `input`, or constant in the file: `fixed` (drawn from `seed`) or `zero`.
        seed: of `fixed` noise.
        on_step: called with a line about each step, of which every one may take a minute.

    Returns:
        The files written.

    Raises:
        GCFSRError: an unknown choice, a package is missing, or a file cannot be written.
    """
    graphs = onnx_graphs(net, parts, noise, seed, on_step)  # all, before one is written
    make_folder(target.parent, "-o")
    written = []
    for part, model in graphs.items():
        path = target.with_suffix(".onnx" if part == "whole" else f".{part}.onnx")
        write_bytes_atomic(path, model)
        written.append(path)
    return written


def onnx_graphs(
    net: GCFSR,
    parts: str = "two",
    noise: str = "input",
    seed: int = 0,
    on_step: Callable[[str], None] = lambda line: None,
) -> dict[str, bytes]:
    """The files of `export_onnx`: `encoder` and `decoder`, or `whole`. Arguments and errors as there."""
    if parts not in ("one", "two") or noise not in NOISES:
        raise GCFSRError(f"export: parts {parts} and noise {noise}; give one or two, and {', '.join(NOISES)}")
    note = {"config": net.config.to_dict(), "noise": noise, "seed": seed}
    dial, features = dial_names(net, noise), feature_names(net)
    if parts == "one":
        jobs = {"whole": (lambda: trace_whole(net, noise, seed), ["x", *dial], ["image"])}
    else:
        jobs = {
            "encoder": (lambda: trace_encoder(net), ["x"], [*features, *estimate_names(net)]),
            "decoder": (lambda: trace_decoder(net, noise, seed), [*features, *dial], ["image"]),
        }
    graphs = {}
    for part, (trace, inputs, outputs) in jobs.items():
        on_step(f"tracing the {part} network")
        program = trace()
        on_step(f"converting the {part} network to ONNX")
        graphs[part] = _to_onnx(program, inputs, outputs, {**note, "part": part})
    return graphs


def _to_onnx(program: torch.export.ExportedProgram, inputs: list[str], outputs: list[str], note: dict) -> bytes:
    try:
        import onnx  # noqa: F401 - the exporter needs both
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise GCFSRError(f"export: {error.name} is not installed; pip install 'gcfsr[onnx]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations and its remark on the shared batch axis
        level = logging.getLogger("torch.onnx").level
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        converted = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs, opset_version=OPSET
        )
        logging.getLogger("torch.onnx").setLevel(level)
    assert converted is not None  # what the exporter gives with dynamo=True
    model = converted.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(note)
    return model.SerializeToString()


def _trace(graph: nn.Module, inputs: list[Tensor], listed: bool = True) -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch", min=1, max=1024)}
    graph = copy.deepcopy(graph).eval()
    for module in graph.modules():  # torch 2.5 loses buffers that are not persistent on the way to ONNX
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer)
    args: tuple[Any, ...] = (inputs,) if listed else tuple(inputs)
    shapes: tuple[Any, ...] = ([batch] * len(inputs),) if listed else (batch,) * len(inputs)
    with torch.no_grad():
        return torch.export.export(graph, args, dynamic_shapes=shapes)


def _example(net: GCFSR) -> Tensor:
    return torch.zeros(2, 3, net.out_size, net.out_size)  # two: a batch of one would be traced as the other form


def _dial(net: GCFSR, noise: str) -> list[Tensor]:
    shape = (2, len(net.sizes), *([len(net.conditions)] if len(net.conditions) > 1 else []))
    s = [] if net.blind else [torch.full(shape, 0.5)]
    return s + ([torch.zeros(shape) for shape in net.noise_shapes(2)] if noise == "input" else [])


def _maps(net: GCFSR, noise: str, seed: int) -> list[Tensor] | None:
    """Constant noise maps, none for `zero`; None where they are inputs."""
    if noise == "input":
        return None
    maps = noise_maps("fixed" if noise == "fixed" else "zero", net.noise_shapes(1), seed, torch.zeros(1))
    return [m for m in maps if m is not None]
