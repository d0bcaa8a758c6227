"""Building blocks of the option schema: strict sections, numbers that may come as text, keys that nothing uses."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A block of an option file: an unknown key is a fault."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True, protected_namespaces=(), validate_default=False
    )


class OpenSection(Section):
    """A block whose keys belong to a third party's class (a network or data set that is not ours)."""

    model_config = ConfigDict(extra="allow")


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as text, and BasicSR's --force_yml reads `-1` so."""
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("should be a number") from None
    return value


def _whole(value: Any) -> Any:
    value = _number(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("should be a whole number")
    return value


def _power_of_two(size: int) -> int:
    if size < 32 or size & (size - 1):
        raise ValueError("should be a power of two from 32 (32, 64, ..., 1024)")
    return size


def message(text: str) -> WrapValidator:
    """Replaces all errors of a value by one message; pydantic would cite a pattern or each type in turn."""

    def judged(value: Any, judge: Callable[[Any], Any]) -> Any:
        try:
            return judge(value)
        except ValidationError:
            raise ValueError(text) from None

    return WrapValidator(judged)


Float = Annotated[float, BeforeValidator(_number)]
Int = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[Float, Field(gt=0)]
Weight = Annotated[Float, Field(ge=0)]
Share = Annotated[Float, Field(ge=0, le=1)]
Count = Annotated[Int, Field(ge=1)]
NaturalInt = Annotated[Int, Field(ge=0)]
Size = Annotated[Int, AfterValidator(_power_of_two)]
Name = Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$"), message("should be a plain name without slashes")]
Phase = Annotated[str, Field(pattern=r"^(train|(val|test)(_\w+)?)$"), message("should be train, val, val_2, test, ...")]
Gpus = Annotated[NaturalInt | Literal["auto"], message("should be a whole number from 0, or 'auto'")]


def _ascending(pair: list[float]) -> list[float]:
    if pair[0] > pair[1]:
        raise ValueError("should be [smallest, largest]")
    return pair


Range = Annotated[list[Float], Field(min_length=2, max_length=2), AfterValidator(_ascending)]


def unused(reason: str) -> Any:
    """A key that is accepted and reported as ignored, because files in use carry it."""
    return Field(default=None, description=f"Ignored: {reason}.", json_schema_extra={"ignored": reason})


def why_unused(info: FieldInfo) -> str | None:
    """The reason of an `unused` key; None for a key that something reads."""
    extra = info.json_schema_extra
    return str(extra["ignored"]) if isinstance(extra, dict) and "ignored" in extra else None
