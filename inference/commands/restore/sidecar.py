"""The JSON beside a result: enough to make the same bytes again."""

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from gcfsr_arch import __version__
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.documents import MOST_FACES, Box, Landmarks, Name, Number, Part, Sha256, read_document
from gcfsr_inference.restore.dial import DIALS, MAX_SEED


class Options(Part):
    """The options that decide the result's pixels or form; the rest (where to write, what to print) is not kept."""

    checkpoint: Name | None = None
    factor: Number | Literal["auto"] | None = None
    s: Number | None = None
    w: Number | None = None
    s_map: Name | None = None
    s_levels: str | None = None
    deblur: Number | Literal["auto"] | None = None
    denoise: Number | Literal["auto"] | None = None
    dejpeg: Number | Literal["auto"] | None = None
    device: str | None = None
    dtype: Literal["fp32", "bf16"] | None = None
    backend: str | None = None
    compile: bool | None = None
    noise: Literal["fixed", "random", "zero"] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    lock: bool | None = None
    aligned: bool
    upscale: Number | None = None
    bg_upsampler: str | None = None
    bg_tile: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    faces: str | None = None
    only_center_face: bool | None = None
    min_face: Number | None = None
    match_color: bool | None = None
    agreement: Number | None = None
    always: bool | None = None
    grain: Number | None = None
    blend: Number | None = None
    ext: str | None = None
    metadata: Literal["keep", "no-gps", "none"] | None = None
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    suffix: Name | None = None
    detector: str | None = None
    confidence: Number | None = None
    landmarks: Name | None = None


class FaceEntry(Part):
    """A face of a sidecar: where it lies (in photographs), and in what batch it was restored (unless it was left)."""

    box: Box | None = None
    landmarks: Landmarks | None = None
    score: Number | None = None
    status: str | None = None
    factor: Annotated[float, Field(gt=0, le=1e6)] | None = None
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None


class Input(Part):
    path: Name | None = None
    sha256: Literal[""] | Sha256


class Sidecar(Part):
    """What `read` returns as plain dicts."""

    kind: Literal["gcfsr restore"]
    version: str
    input: Input
    checkpoint_sha256: Sha256
    options: Options
    faces: Annotated[list[FaceEntry], Field(max_length=MOST_FACES)]

    @model_validator(mode="after")
    def _complete(self) -> "Sidecar":
        if self.options.aligned and (len(self.faces) != 1 or self.faces[0].batch is None):
            raise ValueError("an aligned face's has one entry in faces, with its batch")
        return self


KEPT = tuple(Options.model_fields)
DIAL = ("factor", "s", "w", "s_map", "s_levels")  # of which one sets the dial
SCHEMA = TypeAdapter(Sidecar)


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
        "kind": "gcfsr restore",
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
        GCFSRError: no such file, or not a sidecar; the line names the key.
    """
    path = Path(path)
    known = read_document(path, SCHEMA, "a sidecar of `gcfsr restore`")
    content = known.model_dump()
    options, source = known.options.model_dump(exclude_none=True), content["input"]
    for holder, key in ((options, "checkpoint"), (options, "s_map"), (options, "landmarks"), (source, "path")):
        if holder.get(key) and (path.parent / holder[key]).is_file():
            holder[key] = os.path.normpath(path.parent / holder[key])
    return {**content, "options": options}


def adopt(args: Namespace, past: dict[str, Any]) -> tuple[Namespace, dict[str, Any]]:
    """The options of a sidecar over those of the command, and what is to be repeated of the sidecar.

    Inputs, checkpoint and dials of the command replace the sidecar's: the first two name the files of today, and where
    a dial is given no face keeps its own.
    """
    given = {key for key in (*DIAL, *DIALS) if getattr(args, key) is not None}
    replaced = {*given, *DIAL} if given & set(DIAL) else given
    options = {key: value for key, value in past["options"].items() if key in KEPT and key not in replaced}
    if replaced >= set(DIAL):
        past = {**past, "faces": [{**face, "factor": None} for face in past["faces"]]}
    adopted = Namespace(**{**vars(args), **options})
    adopted.checkpoint = args.checkpoint or adopted.checkpoint
    if not args.input and past["input"]["path"]:
        adopted.input = [past["input"]["path"]]
    if len(adopted.input or []) > 1:
        raise GCFSRError("--from-sidecar: one input only")
    return adopted, past


def verify(name: str, what: str, expected: str, found: str) -> None:
    """Raises GCFSRError unless two hashes are equal."""
    if expected != found:
        raise GCFSRError(f"{name}: {what} is not the one the sidecar was made with (SHA-256 {found[:12]}...)")


def dump(content: Any) -> bytes:
    """JSON with stable order and unescaped non-ASCII letters, and bytes of file names that are not UTF-8 escaped."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _relative(path: Path, home: Path) -> str:
    return os.path.relpath(path.absolute(), home.absolute())
