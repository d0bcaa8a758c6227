"""Every key of the schema by its place, to suggest the intended one for an unknown key."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import takewhile
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Tag

from gcfsr_arch.errors import did_you_mean
from gcfsr_arch.training.options.schema import Options
from gcfsr_arch.training.options.types import why_unused

Path_ = tuple[str, ...]


@cache
def known_keys() -> dict[Path_, frozenset[str]]:
    """Every block of the schema: its place (`*` for free names, a union member by its type) -> its keys in use."""
    return {
        place: frozenset(name for name, info in model.model_fields.items() if why_unused(info) is None)
        for place, model in blocks()
    }


def blocks() -> Iterator[tuple[Path_, type[BaseModel]]]:
    """Every block of the schema with its place."""
    return _blocks(Options, ())


def _blocks(model: type[BaseModel], place: Path_) -> Iterator[tuple[Path_, type[BaseModel]]]:
    yield place, model
    for name, info in model.model_fields.items():
        for suffix, inner in _models_in(info.annotation, info.metadata):
            yield from _blocks(inner, (*place, name, *suffix))


def _models_in(annotation: Any, metadata: Sequence[Any] = ()) -> Iterator[tuple[Path_, type[BaseModel]]]:
    tags = [item.tag for item in metadata if isinstance(item, Tag)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tuple(tags), annotation
    elif get_origin(annotation) is Annotated:
        yield from _models_in(annotation.__origin__, annotation.__metadata__)
    elif get_origin(annotation) is dict:
        for suffix, model in _models_in(get_args(annotation)[1]):
            yield ("*", *suffix), model
    else:
        for part in get_args(annotation):
            yield from _models_in(part)


def unknown_key(loc: Sequence[Any]) -> str:
    """What to say of an unknown key: the nearest known one of its block, or the block that it belongs to."""
    place: Path_ = ()
    for part in loc[:-1]:
        place = next((p for p in ((*place, str(part)), (*place, "*")) if _is_block(p)), place)
    key, known = str(loc[-1]), known_keys()
    homes = [where for where, keys in known.items() if key in keys and where != place]
    nearest = max(homes, key=lambda home: _shared(home, place), default=())
    home = f"it belongs under {'.'.join(p for p in nearest if p != '*') or 'the top level'}" if homes else None
    return f"unknown key, {did_you_mean(key, sorted(known.get(place, ())), home)}"


def _shared(one: Path_, other: Path_) -> int:
    """How many parts two places have in common, from the first."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _is_block(place: Path_) -> bool:
    return any(known[: len(place)] == place for known in known_keys())
