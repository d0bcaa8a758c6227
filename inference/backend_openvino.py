"""The network in OpenVINO, converted from the traced graph on first use; compiled for each batch size."""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import openvino

from gcfsr_arch import GCFSR
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.export import trace_decoder, trace_encoder
from gcfsr_inference.exported import ExportedBackend, Run, cached

PARTS = (".encoder.xml", ".encoder.bin", ".decoder.xml", ".decoder.bin")
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def open_backend(path: Path, device: str = "cpu", dtype: str = "fp32", compiled: bool = False) -> ExportedBackend:
    """Opens a checkpoint in OpenVINO.

    Args:
        path: a checkpoint.
        device: "cpu" only.
        dtype: "fp32" or "bf16" (convolutions in bfloat16, results in float32).
        compiled: has no meaning here.

    Raises:
        GCFSRError: another dtype or device.
    """
    if device != "cpu" or compiled:
        raise GCFSRError("--backend openvino: runs on the CPU and compiles by itself; leave out --device and --compile")
    if dtype not in PRECISIONS:
        raise GCFSRError(f"--dtype {dtype}: {' or '.join(PRECISIONS)}")
    config, stem = cached(path, "openvino", _write, PARTS)
    encoder, decoder = (_runner(stem.with_name(stem.name + part), PRECISIONS[dtype]) for part in PARTS[::2])
    return ExportedBackend(config, encoder, decoder, "openvino")


def _write(net: GCFSR, stem: Path) -> None:
    for part, program in ((".encoder.xml", trace_encoder(net)), (".decoder.xml", trace_decoder(net))):
        model = openvino.convert_model(program)
        openvino.save_model(model, stem.with_name(stem.name + part), compress_to_fp16=False)


@cache
def core() -> openvino.Core:
    """The process's only Core, kept to its end.

    Each one gives the thread an alternate stack for signals and unmaps it when it goes. Of two, the one made first
    leaves the other's end with a stack that is no longer there, and the next signal ends the process.
    """
    return openvino.Core()


def _runner(path: Path, precision: str) -> Run:
    @lru_cache(maxsize=2)
    def request_for(shapes: tuple[tuple[int, ...], ...]) -> openvino.InferRequest:
        model = core().read_model(path)
        model.reshape(
            {port: openvino.PartialShape(list(shape)) for port, shape in zip(model.inputs, shapes, strict=True)}
        )
        return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision}).create_infer_request()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        request = request_for(tuple(array.shape for array in inputs))
        outputs = [np.empty(tuple(port.shape), np.float32) for port in request.model_outputs]
        for number, output in enumerate(outputs):  # written in place: features are hundreds of megabytes
            request.set_output_tensor(number, openvino.Tensor(output, shared_memory=True))
        request.infer(list(inputs), share_inputs=True, share_outputs=True)
        return outputs

    return run
