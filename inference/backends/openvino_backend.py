"""The network in OpenVINO, converted from the traced graph on first use; compiled for each batch size."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np
import openvino

from gcfsr_arch import GCFSR
from gcfsr_arch.config import GCFSRConfig
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import write_atomic
from gcfsr_inference.backends.export import feature_names, trace_decoder, trace_encoder
from gcfsr_inference.backends.exported import ExportedBackend, Run, cached

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
        raise GCFSRError("--backend openvino: runs on the CPU and compiles always; remove --device and --compile")
    if dtype not in PRECISIONS:
        raise GCFSRError(f"--dtype {dtype}: {' or '.join(PRECISIONS)}")
    config, stem = cached(path, "openvino", _write, PARTS)
    files = [stem.with_name(stem.name + part) for part in PARTS[::2]]
    passed = len(feature_names(GCFSRConfig.from_dict(config)))
    reads = [*(partial(core().read_model, file) for file in files), partial(_joined, *files, passed)]
    encoder, decoder, whole = (_runner(read, PRECISIONS[dtype]) for read in reads)
    return ExportedBackend(config, encoder, decoder, "openvino", whole)


def _write(net: GCFSR, stem: Path) -> None:
    with TemporaryDirectory() as folder:  # OpenVINO writes in place, where another process may read
        made = Path(folder) / "made"
        for part, program in zip(PARTS[::2], (trace_encoder(net), trace_decoder(net)), strict=True):
            openvino.save_model(openvino.convert_model(program), f"{made}{part}", compress_to_fp16=False)
        for part in reversed(PARTS):  # weights before the graph that needs them
            write_atomic(stem.with_name(stem.name + part), Path(f"{made}{part}").read_bytes())


@cache
def core() -> openvino.Core:
    """The process's only Core, kept to its end.

    Each one gives the thread an alternate stack for signals and unmaps it when it goes. Of two, the one made first
    leaves the other's end with a stack that is no longer there, and the next signal ends the process.
    """
    return openvino.Core()


def _joined(encoder: Path, decoder: Path, passed: int) -> openvino.Model:
    """Both as one graph: features that are not read keep the layout in which the processor computes.

    `passed` of the encoder's outputs go to the decoder.
    """
    first, second = core().read_model(encoder), core().read_model(decoder)
    features = second.get_parameters()[:passed]
    for result, parameter in zip(first.get_results()[:passed], features, strict=True):
        parameter.output(0).replace(result.input_value(0))
    inputs = [*first.get_parameters(), *second.get_parameters()[len(features) :]]
    return openvino.Model(second.get_results(), inputs)  # pyright: ignore[reportGeneralTypeIssues]: base class's stub


def _runner(read: Callable[[], openvino.Model], precision: str) -> Run:
    lock = Lock()  # a request serves one thread at a time

    @lru_cache(maxsize=2)
    def request_for(shapes: tuple[tuple[int, ...], ...]) -> openvino.InferRequest:
        model = read()
        model.reshape(
            {port: openvino.PartialShape(list(shape)) for port, shape in zip(model.inputs, shapes, strict=True)}
        )
        return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision}).create_infer_request()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with lock:
            request = request_for(tuple(array.shape for array in inputs))
            outputs = [np.empty(tuple(port.shape), np.float32) for port in request.model_outputs]
            for number, output in enumerate(outputs):  # written in place: features are hundreds of megabytes
                request.set_output_tensor(number, openvino.Tensor(output, shared_memory=True))
            request.infer(list(inputs), share_inputs=True, share_outputs=True)
            return outputs

    return run
