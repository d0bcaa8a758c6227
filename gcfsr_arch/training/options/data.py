"""Sections of the block `datasets`: our data sets', the released code's, and third parties'.

The keys of our data sets are the fields of the dataclasses in `gcfsr_datasets`, with the meaning that their docstrings
give: sections are derived from these, and nothing about a key is said twice.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from inspect import getdoc
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Discriminator, Field, Tag, create_model, model_validator

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.options.types import (
    Count,
    Float,
    Int,
    NaturalInt,
    OpenSection,
    Positive,
    Range,
    Section,
    Size,
    unused,
)
from gcfsr_datasets.dataset_options import BlindOptions, FaceOptions, MultiFactorOptions, PhotographOptions

Half = Annotated[Float, Field(ge=0.5, le=0.5)]
HalfTriple = Annotated[list[Half], Field(min_length=3, max_length=3)]


class IoBackend(Section):
    """Where images are read from."""

    type: Literal["disk", "lmdb"] = Field("disk", description="A folder of image files, or an LMDB made by BasicSR.")
    db_paths: list[str] | str | None = unused("the LMDB's path is dataroot_gt")
    client_keys: list[str] | str | None = unused("the LMDB's path is dataroot_gt")


class Loader(Section):
    """Keys that BasicSR's data loader reads for every data set."""

    name: str = Field(description="Name of the data set in the log and the metrics.")
    scale: Int | None = unused("images come at output size")
    num_worker_per_gpu: NaturalInt | None = Field(None, description="Workers per device; 0 loads in the trainer.")
    batch_size_per_gpu: Count | None = Field(None, description="Images per device and iteration.")
    dataset_enlarge_ratio: Positive = Field(1, description="How often the data set is repeated in one epoch.")
    prefetch_mode: Literal["cpu", "cuda"] | None = Field(None, description="cpu: a thread; cuda: copies ahead.")
    num_prefetch_queue: Count = Field(1, description="Batches that prefetch_mode cpu holds ready.")
    pin_memory: bool = Field(False, description="Page-locked batches; prefetch_mode cuda needs it.")
    persistent_workers: bool | None = Field(
        None, description="Keep the workers from epoch to epoch; without it they are kept."
    )
    use_shuffle: bool | None = unused("training always shuffles and validation never does")


# ---- sections from the data sets' dataclasses -----------------------------------------------------------------------


def meanings(cls: type) -> dict[str, str]:
    """Key -> its text in the `Attributes:` of a dataclass's docstring or of one of its bases."""
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        _, _, attributes = ((kind.__doc__ and getdoc(kind)) or "").partition("Attributes:\n")
        for entry in re.split(r"\n(?=    \S)", attributes.rstrip()):
            names, _, text = entry.strip().partition(": ")
            sentence = " ".join(text.split())
            sentence = sentence if sentence[1:2] == " " else sentence[:1].upper() + sentence[1:]  # not of `s = ...`
            found |= {name: sentence for name in names.split(", ") if text}
    return found


def checked(annotation: Any) -> Any:
    """A dataclass's type as a type of the schema: numbers may be text, tuples are lists, dataclasses are sections."""
    if is_dataclass(annotation):
        return nested_section(annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(checked(argument) for argument in arguments)]  # noqa: UP007 - of a computed tuple
    if get_origin(annotation) is tuple and arguments == (float, float):
        return Range
    if get_origin(annotation) is tuple:
        length = (
            {"min_length": 1} if arguments[-1] is ... else {"min_length": len(arguments), "max_length": len(arguments)}
        )
        return Annotated[list[checked(arguments[0])], Field(**length)]
    return {float: Float, int: Int, dict: IoBackend}.get(get_origin(annotation) or annotation, annotation)


@cache
def nested_section(cls: type) -> Any:
    """The section of a dataclass that is a block within a data set's."""
    return section_of(cls, cls.__name__, Section)


def section_of(
    cls: type, name: str, base: type[Section], extra: Mapping[str, Any] | None = None, build: bool = True
) -> Any:
    """The section of a dataclass of `gcfsr_datasets`.

    Args:
        cls: the dataclass; its own checks, which raise GCFSRError, become faults of the section.
        name: of the section.
        base: a section whose keys come first.
        extra: name -> (type, default) of keys that the dataclass lacks or that are narrower with our networks.
        build: whether the dataclass's checks are run; not for a section that is only derived from further.
    """
    hints, texts, keys = get_type_hints(cls), meanings(cls), {}
    for spec in fields(cls):
        if spec.name in ("name", "phase"):  # the loader's, and BasicSR's
            continue
        default = spec.default_factory() if spec.default_factory is not MISSING else spec.default
        default = list(default) if isinstance(default, tuple) else default
        default = IoBackend() if isinstance(default, dict) else ... if default is MISSING else default
        keys[spec.name] = (checked(hints[spec.name]), Field(default, description=texts.get(spec.name)))
    for key, kind in (extra or {}).items():
        keys[key] = (kind, keys[key][1]) if key in keys else kind
    checks: dict[str, Callable[..., Any]] = (
        {"buildable": model_validator(mode="after")(buildable(cls))} if build else {}
    )
    summary = (getdoc(cls) or "").partition("\n\n")[0]
    return create_model(name, __base__=base, __doc__=summary, __module__=__name__, __validators__=checks, **keys)


def buildable(cls: type) -> Callable[[BaseModel], BaseModel]:
    """A validator that runs the checks of a dataclass on the values of its section."""

    def check(section: BaseModel) -> BaseModel:
        values = {spec.name: plain(getattr(section, spec.name)) for spec in fields(cls) if hasattr(section, spec.name)}
        try:
            cls(**values)
        except GCFSRError as error:
            raise ValueError(str(error).removeprefix(f"datasets: {values.get('name')}: ")) from None
        return section

    return check


def plain(value: Any) -> Any:
    """A section's value as the dataclass takes it."""
    if isinstance(value, BaseModel):
        return {key: plain(inner) for key, inner in value}
    return tuple(value) if isinstance(value, list) else value


NARROWER = {"out_size": Size, "mean": HalfTriple | None, "std": HalfTriple | None}  # with our networks

FaceFolder: type[Section] = section_of(FaceOptions, "FaceFolder", Loader, NARROWER, build=False)


def data_section(cls: type, name: str, kind: str) -> type[Section]:
    """The section of one of our data sets, registered as `kind`."""
    return section_of(cls, name, Loader, {**NARROWER, "type": (Literal[kind], ...)})


MultiFactor = data_section(MultiFactorOptions, "MultiFactor", "MultiFactorDegradationDataset")
BlindFace = data_section(BlindOptions, "BlindFace", "BlindFaceDegradationDataset")
PhotographFace = data_section(PhotographOptions, "PhotographFace", "PhotographDegradationDataset")


# ---- the released code's, and any other -----------------------------------------------------------------------------


class ReleasedControl(FaceFolder):
    """FFHQ_control_Dataset of the released code: factors drawn from `downsample_list`."""

    type: Literal["FFHQ_control_Dataset"]
    out_size: Size | None = Field(None, description="Without it the network's.")
    downsample_list: Annotated[list[Positive], Field(min_length=1)]
    cond_norm: Positive = Field(64, description="s = factor / cond_norm.")


class ReleasedSingle(Loader):
    """SingleImage_GT_Dataset of the released code: inputs without ground truth."""

    type: Literal["SingleImage_GT_Dataset"]
    dataroot_lq: str
    dataroot_gt: str | None = None
    out_size: Size
    cond_norm: Positive = 64
    io_backend: IoBackend = Field(default_factory=lambda: IoBackend())
    meta_info_file: str | None = None
    mean: HalfTriple | None = None
    std: HalfTriple | None = None


class OtherDataset(OpenSection):
    """A data set that is not ours; its own class reads its keys."""

    name: str
    type: str


DATASETS: dict[str, type[Section]] = {
    "MultiFactorDegradationDataset": MultiFactor,
    "BlindFaceDegradationDataset": BlindFace,
    "PhotographDegradationDataset": PhotographFace,
    "FFHQ_control_Dataset": ReleasedControl,
    "SingleImage_GT_Dataset": ReleasedSingle,
}


def one_of(kinds: dict[str, type[Section]], other: type[OpenSection]) -> Any:
    """The union of all kinds by their `type`, and `other` for any other; a block without one is read as the first."""
    first = next(iter(kinds))

    def tag(block: Any) -> str:
        kind = block.get("type", first) if isinstance(block, dict) else getattr(block, "type", first)
        return kind if isinstance(kind, str) and kind in kinds else "other"

    none_of_ours = Field(json_schema_extra={"not": {"enum": list(kinds)}})
    rest = create_model(other.__name__, __base__=other, __doc__=other.__doc__, type=(str, none_of_ours))
    union: Any = Annotated[rest, Tag("other")]
    for name, kind in kinds.items():
        union = union | Annotated[kind, Tag(name)]
    return Annotated[union, Discriminator(tag)]


Dataset = one_of(DATASETS, OtherDataset)
