"""The network in ONNX Runtime, from a checkpoint (exported on first use) or from NAME.encoder.onnx and its decoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
from pydantic import TypeAdapter, ValidationError

from gcfsr_arch import GCFSR
from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_inference.backends.export import METADATA, export_onnx
from gcfsr_inference.backends.exported import ExportedBackend, Run, cached
from gcfsr_inference.documents import first_fault

LOADING_FAULTS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, RuntimeError)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PARTS = (".encoder.onnx", ".decoder.onnx")


def open_backend(path: Path, device: str = "cpu", dtype: str = "fp32", compiled: bool = False) -> ExportedBackend:
    """Opens a checkpoint in ONNX Runtime.

    Args:
        path: a checkpoint, or either of the two files that `gcfsr export --noise input` wrote.
        device: "cpu", or "cuda" where this build of ONNX Runtime has it.
        dtype: "fp32" only.
        compiled: has no meaning here.

    Raises:
        GCFSRError: another dtype or device, a missing part, or an ONNX file that is not ours.
    """
    if dtype != "fp32" or compiled:
        raise GCFSRError("--backend onnx: runs in fp32 and is not compiled; leave out --dtype and --compile")
    provider = PROVIDERS.get(device, "")
    if provider not in onnxruntime.get_available_providers():
        raise GCFSRError(f"--device {device}: not available in this ONNX Runtime; use --device cpu")
    if path.suffix == ".onnx":
        stem = path.with_name(path.name.removesuffix(PARTS[0]).removesuffix(PARTS[1]))
        encoder, decoder = (_session(stem.with_name(stem.name + part), provider) for part in PARTS)
        config = _config(decoder, path)
    else:
        config, stem = cached(path, "onnx", _write, PARTS)
        encoder, decoder = (_session(stem.with_name(stem.name + part), provider) for part in PARTS)
    return ExportedBackend(config, _run(encoder, path), _run(decoder, path), "onnx")


def _write(net: GCFSR, stem: Path) -> None:
    export_onnx(net, stem.with_name(stem.name + ".onnx"))


def _session(path: Path, provider: str) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise GCFSRError(f"{path}: no such file; export both parts with `gcfsr export --parts two`")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it prints what it raises
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except LOADING_FAULTS as error:
        raise GCFSRError(f"{path}: not an ONNX file that ONNX Runtime can run") from error


def _config(decoder: onnxruntime.InferenceSession, path: Path) -> dict[str, Any]:
    text = decoder.get_modelmeta().custom_metadata_map.get(METADATA, "{}")
    try:
        note = TypeAdapter(dict[str, Any]).validate_json(text)
    except ValidationError as error:
        raise GCFSRError(f"{path}: its metadata are not what `gcfsr export` writes: {first_fault(error)}") from error
    if note.get("part") != "decoder" or note.get("noise") != "input" or not isinstance(note.get("config"), dict):
        raise GCFSRError(f"{path}: not written by `gcfsr export --parts two --noise input`, which this backend needs")
    return note["config"]


def _run(session: onnxruntime.InferenceSession, path: Path) -> Run:
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            return [np.asarray(output) for output in session.run(None, dict(zip(names, inputs, strict=True)))]
        except Exception as error:  # its graph is not that of its metadata, or asks for too much memory
            raise GCFSRError(f"{path}: ONNX Runtime cannot run it: {first_line(error)}") from error

    return run
