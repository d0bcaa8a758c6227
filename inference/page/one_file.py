"""A network as one HTML page that works from a file: ONNX Runtime Web, encoder, decoder and the page's code in one.

The page (`one_file.html`) may open no connection: its Content-Security-Policy forbids every one.
"""

import base64
import gzip
import json
import tarfile
from importlib.resources import files
from pathlib import Path

from gcfsr_arch import GCFSR
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.estimator import MARGIN
from gcfsr_datasets.image_io import write_bytes_atomic
from gcfsr_inference.backends.export import onnx_graphs
from gcfsr_inference.restore import autofactor
from gcfsr_inference.restore.dial import DIALS

ORT = "onnxruntime-web@1.30.0"  # the version that was tested
ORT_FILES = {  # asset's name in the page: file in the npm package
    "runtime": "dist/ort.wasm.min.js",
    "glue": "dist/ort-wasm-simd-threaded.mjs",
    "wasm": "dist/ort-wasm-simd-threaded.wasm",
}
LARGEST = 64 * 2**20  # bytes of one of these files; the largest has 14 MB


def export_html(net: GCFSR, target: Path, runtime: dict[str, bytes], licence: str = "", seed: int = 0) -> Path:
    """Writes the page: drop a face, move the dials, save.

    Args:
        net: the network; its weights are stored as 16-bit floats and computed with in float32.
        target: the file to write.
        runtime: ONNX Runtime Web, as `read_ort` reads it.
        licence: of the weights, shown on the page.
        seed: of the fixed noise.

    Returns:
        The file written.

    Raises:
        GCFSRError: the extra `onnx` is missing, or the file cannot be written.
    """
    options = {name: option for option, name in DIALS.items()}
    graphs = onnx_graphs(net, "two", "fixed", seed)
    assets = runtime | {name: half_weights(graphs[name]) for name in ("encoder", "decoder")}
    config = {
        "size": net.out_size,
        "levels": 0 if net.blind else len(net.sizes),
        "dials": [options[name] for name in net.conditions[1:]],
        "margin": MARGIN,
        "least": net.min_factor,
        "most": net.max_factor,
        "rounded": net.config.variant == "released",
        "auto": autofactor.as_dict(),
        "licences": f"The network's weights\n\n{licence or 'as its author states'}\n\nONNX Runtime Web, MIT licence, "
        "Copyright (c) Microsoft Corporation\n\nThis page, Apache-2.0, the gcfsr contributors",
    }
    page = files("gcfsr_inference.page").joinpath("one_file.html").read_text(encoding="utf-8")
    page = page.replace("%CONFIG%", json.dumps(config).replace("<", "\\u003c"))
    page = page.replace("%ASSETS%", "\n".join(_embedded(name, data) for name, data in assets.items()))
    write_bytes_atomic(target, page.encode())
    return target


def read_ort(source: Path) -> dict[str, bytes]:
    """The files of `ORT_FILES` from the npm package, a folder or the archive of `npm pack`.

    Raises:
        GCFSRError: one is missing, too large or cannot be read.
    """
    advice = f"run `npm pack {ORT}` and name the file that it writes with --ort"
    try:
        if source.is_dir():
            found = {name: _bounded(source / file) for name, file in ORT_FILES.items()}
        else:
            with tarfile.open(source, "r:gz") as archive:
                found = {name: _member(archive, f"package/{file}") for name, file in ORT_FILES.items()}
    except (OSError, EOFError, tarfile.TarError, KeyError) as error:
        raise GCFSRError(f"{source}: not the npm package onnxruntime-web ({error}); {advice}") from error
    return found


def half_weights(model: bytes) -> bytes:
    """An ONNX model whose large float32 constants are stored as float16 and converted when it is loaded.

    Constants that float16 cannot hold stay as they are, and so do the estimator's moments: a variance from rounded ones
    may be far off.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    graph = (proto := onnx.load_from_string(model)).graph
    casts = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 256 or np.abs(array).max() > np.finfo(np.float16).max:
            continue
        if "estimator.norm" in tensor.name:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return proto.SerializeToString()


def _embedded(name: str, data: bytes) -> str:
    text = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    return f'<script type="application/octet-stream" id="{name}">{text}</script>'


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise OSError(f"{path.name} has more than {LARGEST} bytes")
    return path.read_bytes()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.getmember(name)
    content = archive.extractfile(member) if member.size <= LARGEST else None
    if content is None:
        raise OSError(f"{name} is not a file of at most {LARGEST} bytes")
    return content.read()
