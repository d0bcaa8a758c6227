"""JSON files that others may have written: bounded before they are read, held against a schema before they are used."""

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import read_bytes

MOST_BYTES = 64 << 20
MOST_FACES = 10_000  # of one image
_Content = TypeVar("_Content")


class Part(BaseModel):
    """A part of a document: numbers are finite, types are not guessed; keys of later versions are kept."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")


def _is_text(value: Any) -> Any:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("Input should be a text")
    return value


Name = Annotated[Any, AfterValidator(_is_text)]  # of a file; pydantic's str takes no names that are not UTF-8
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2)]
Landmarks = Annotated[list[Point], Field(min_length=5, max_length=5)]
Box = Annotated[list[Number], Field(min_length=4, max_length=4)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def read_document(
    path: str | os.PathLike, schema: TypeAdapter[_Content], what: str, most_bytes: int = MOST_BYTES
) -> _Content:
    """Reads and validates a JSON file.

    Args:
        path: the file.
        schema: what it must hold.
        what: names it in errors: "a sidecar of `gcfsr restore`".
        most_bytes: that it may have.

    Raises:
        GCFSRError: it cannot be read, is too large, nests too deep, is no JSON, or holds something else.
    """
    data = read_bytes(path, most_bytes, f"that is not {what}")
    try:
        return schema.validate_python(json.loads(data, parse_constant=_refused))
    except ValidationError as error:
        raise GCFSRError(f"{path}: not {what}: {first_fault(error)}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of thousands of digits
        raise GCFSRError(f"{path}: not {what}: {error}") from error


def first_fault(error: ValidationError) -> str:
    """Where a document departs from its schema first, and how: `faces.0.batch: Input should be ...`."""
    fault: Mapping[str, Any] = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")
