"""The JSON beside a result: enough to make the same bytes again."""

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from gcfsr_arch import __version__
from gcfsr_arch.errors import GCFSRError

KIND = "gcfsr restore"
# Options that decide the result's pixels or form; the rest (where to write, what to print) is not kept.
KEPT = (
    "checkpoint", "factor", "s", "w", "s_map", "s_levels", "device", "dtype", "backend", "compile", "noise", "seed",
    "lock", "aligned", "upscale", "bg_upsampler", "bg_tile", "faces", "only_center_face", "min_face", "match_color",
    "ext", "metadata", "batch", "suffix", "detector", "confidence", "landmarks",
)  # fmt: skip


def build(
    args: Any, source: Path | None, input_hash: str, checkpoint_hash: str, faces: list[dict[str, Any]],
    output: Path | None, output_hash: str, aligned: bool,
) -> dict[str, Any]:  # fmt: skip
    """The sidecar of one result. Paths are relative to the sidecar's folder, so that both can move together.

    Args:
        args: the command's options (only those of `KEPT` are stored).
        source: the input file, None for standard input.
        input_hash: SHA-256 of the input's bytes.
        checkpoint_hash: SHA-256 of the checkpoint's file.
        faces: per face box, landmarks (photographs), factor, seed, consistency, ...
        output: the result's file, beside which the sidecar lies; None for standard output.
        output_hash: SHA-256 of the result's bytes.
        aligned: whether the image was taken as one aligned face.
    """
    home = Path() if output is None else output.parent
    options = {key: getattr(args, key) for key in KEPT if getattr(args, key, None) is not None}
    options["aligned"] = aligned
    for key in ("checkpoint", "s_map", "landmarks"):
        if key in options and Path(options[key]).is_file():
            options[key] = _relative(Path(options[key]), home)
    return {
        "kind": KIND,
        "version": __version__,
        "input": {"path": None if source is None else _relative(source, home), "sha256": input_hash},
        "checkpoint_sha256": checkpoint_hash,
        "options": options,
        "faces": faces,
        "output": {"name": None if output is None else output.name, "sha256": output_hash},
    }


def read(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a sidecar and makes its paths usable from here.

    Raises:
        GCFSRError: no such file, or not a sidecar.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != KIND:
            raise KeyError("kind")
        options, source = content["options"], content["input"]
        for holder, key in ((options, "checkpoint"), (options, "s_map"), (options, "landmarks"), (source, "path")):
            if holder.get(key) and (path.parent / holder[key]).is_file():
                holder[key] = os.path.normpath(path.parent / holder[key])
        _ = content["checkpoint_sha256"], content["version"], source["sha256"], content["faces"]
    except OSError as error:
        raise GCFSRError(f"{path}: {error.strerror}; name the JSON that `gcfsr restore --sidecar` wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GCFSRError(f"{path}: not a sidecar of `gcfsr restore` ({error})") from error
    return content


def adopt(args: Namespace, past: dict[str, Any]) -> Namespace:
    """The options of a sidecar over those of the command; -i and --checkpoint given now name the files of today."""
    options = {key: value for key, value in past["options"].items() if key in KEPT}
    adopted = Namespace(**{**vars(args), **options})
    adopted.checkpoint = args.checkpoint or adopted.checkpoint
    if not args.input and past["input"]["path"]:
        adopted.input = [past["input"]["path"]]
    if len(adopted.input or []) > 1:
        raise GCFSRError("--from-sidecar: one input only")
    return adopted


def verify(name: str, what: str, expected: str, found: str) -> None:
    """Raises GCFSRError unless two hashes are equal."""
    if expected != found:
        raise GCFSRError(f"{name}: {what} is not the one the sidecar was made with (SHA-256 {found[:12]}...)")


def dump(content: Any) -> bytes:
    """JSON with stable order and non-ASCII letters as they are, and bytes of file names that are not UTF-8 escaped."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _relative(path: Path, home: Path) -> str:
    return os.path.relpath(path.absolute(), home.absolute())
