"""Checks an option file before anything is built: every fault at once, each with its path and, for a key, the nearest.

from gcfsr_arch.training.options import check_file
report = check_file("train_gcfsr_x64.yml", ["train:total_iter=100"])
report.faults, report.ignored, report.options
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gcfsr_arch.errors import GCFSRError, did_you_mean
from gcfsr_arch.files import read_bytes
from gcfsr_arch.training.options.cross import cross_faults, doubts
from gcfsr_arch.training.options.names import blocks, unknown_key
from gcfsr_arch.training.options.registry import registry_faults
from gcfsr_arch.training.options.released import our_options
from gcfsr_arch.training.options.schema import Options
from gcfsr_arch.training.options.types import OpenSection, Section, why_unused

Tree = dict[str, Any]
Fault = tuple[str, str]


MAX_BYTES, MAX_VALUES = 1 << 20, 20_000  # of an option file; the largest of ours has 5 kB and 150 values


@dataclass
class Report:
    """What was found in an option file.

    Args:
        faults: (path, what is wrong), in the file's order of sections.
        ignored: (path, why) of keys that are accepted and not used.
        doubtful: (path, why) of values that are valid but probably not intended.
        options: the options with numbers made numbers; as the user wrote them where there are faults.
        resolved: the same in our words where they are the authors', with every default filled in.
    """

    faults: list[Fault] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    options: Tree = field(default_factory=dict)
    resolved: Tree = field(default_factory=dict)

    def lines(self, source: str) -> list[str]:
        """One line per fault: FILE: path: what is wrong."""
        return [f"{source}: {path}: {message}" if path else f"{source}: {message}" for path, message in self.faults]

    def remarks(self) -> list[str]:
        """One line per key that is ignored or whose value is doubtful."""
        ignored = [f"ignored: {path}: {reason}" for path, reason in self.ignored]
        return ignored + [f"warning: {path}: {reason}" for path, reason in self.doubtful]


def check_file(path: str | Path, force: Sequence[str] = (), is_train: bool | None = None) -> Report:
    """Reads an option file, applies `--force_yml` entries and checks it.

    Args:
        path: YAML file.
        force: entries as BasicSR's `--force_yml` takes them: "train:total_iter=100".
        is_train: whether it is to train (blocks train and logger) or to test; None asks the file itself.

    Raises:
        GCFSRError: the file is missing, unreadable, too large, not valid YAML or not a mapping.
    """
    options, faults = read_options(Path(path))
    faults += [fault for entry in force if (fault := apply_force(options, entry)) is not None]
    return check(options, is_train, faults)


def read_options(path: Path) -> tuple[Tree, list[Fault]]:
    """The mapping of a YAML file, and a fault for every key that is duplicated in its block.

    Raises:
        GCFSRError: the file is missing, unreadable, too large, not valid YAML or not a mapping.
    """
    content = read_bytes(path, MAX_BYTES, "that is too large for an option file")
    try:
        loader = _Loader(content.decode("utf-8"))
        options = loader.get_single_data()
    except UnicodeDecodeError as error:
        raise GCFSRError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError, AttributeError, TypeError, KeyError) as error:  # of odd tags
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise GCFSRError(f"{path}: is not valid YAML: {getattr(error, 'problem', None) or error}{place}") from None
    if count_values(options, {}) > MAX_VALUES:
        raise GCFSRError(f"{path}: is too large for an option file (over {MAX_VALUES} values)")
    if not isinstance(options, dict):
        raise GCFSRError(f"{path}: holds no options (a mapping of keys was expected)")
    return options, loader.duplicates


def count_values(tree: Any, known: dict[int, int]) -> int:
    """How many values a tree has with its YAML aliases written out."""
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = MAX_VALUES + 1  # an alias of a block that contains it
        known[id(tree)] = sum(count_values(v, known) for v in (tree.values() if isinstance(tree, dict) else tree))
    return known[id(tree)]


class _Loader(yaml.SafeLoader):
    """Notes duplicated keys, of which YAML keeps the last one without saying so."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.duplicates: list[Fault] = []


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Tree:
    keys = Counter(key.value for key, _ in node.value if isinstance(key.value, str) and key.value != "<<")
    line = node.start_mark.line + 1
    loader.duplicates += [(key, f"is duplicated in its block (from line {line})") for key, n in keys.items() if n > 1]
    loader.flatten_mapping(node)
    return {str(k): v for k, v in loader.construct_pairs(node, deep=True)}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def apply_force(options: Tree, entry: str) -> Fault | None:
    """Sets one `--force_yml` entry as BasicSR does. Returns the fault, if any."""
    keys, equals, value = entry.partition("=")
    *parents, last = (key.strip() for key in keys.split(":"))
    if not equals or "=" in value or not last:
        return f"--force_yml {entry}", "should be KEY:KEY=VALUE with one '='"
    block: Any = options
    for depth, key in enumerate(parents):
        if not isinstance(block, dict) or not isinstance(block.get(key), dict):
            return f"--force_yml {entry}", f"the file has no block {'.'.join(parents[: depth + 1])}"
        block = block[key]
    try:
        block[last] = _forced_value(value.strip())
    except yaml.YAMLError:
        return f"--force_yml {entry}", "the value is not a valid list or number"
    return None


def _forced_value(value: str) -> Any:
    """The value as BasicSR reads it; numbers stay text here, the schema makes them numbers."""
    if value == "~" or value.lower() == "none":
        return None
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return yaml.safe_load(value.removeprefix("!!float")) if value.startswith(("[", "!!float")) else value


# ---------------------------------------------------------------- checking


def check(options: Tree, is_train: bool | None = None, faults: Sequence[Fault] = ()) -> Report:
    """Checks options against the schema and one another; see `Report`.

    Args:
        options: the options as the user wrote them.
        is_train: as in `check_file`.
        faults: what reading them found already.
    """
    is_train = "train" in options if is_train is None else is_train
    report = Report(options=options, resolved=options)
    try:
        model = Options.model_validate(options)
    except ValidationError as error:
        report.faults = [_fault(options, one) for one in error.errors(include_url=False)]
    else:
        report.options = _converted(options, model.model_dump(exclude_unset=True))
        report.resolved = Options.model_validate(our_options(report.options)).model_dump(exclude_none=True)
        report.ignored = list(_ignored(model))
        report.doubtful = list(doubts(Options.model_validate(report.resolved)))
    report.faults = [*faults, *report.faults, *registry_faults(options), *cross_faults(options, is_train)]
    return report


S = TypeVar("S", bound=Section)


def validated(section: type[S], options: Any, place: str) -> S:
    """A section of the schema from the options of its block, for callers that build a model without an option file.

    Args:
        place: the block's path in an option file, for the message.

    Raises:
        GCFSRError: every fault, a line each.
    """
    try:
        return section.model_validate(options if options is not None else {})
    except ValidationError as error:
        tree: Any = options
        parents = place.split(".")
        for parent in reversed(parents):
            tree = {parent: tree}
        faults = [_fault(tree, {**one, "loc": (*parents, *one["loc"])}) for one in error.errors(include_url=False)]
        raise GCFSRError("; ".join(f"{path}: {message}" for path, message in faults)) from None


def _converted(raw: Any, parsed: Any) -> Any:
    """`raw`, its order and its keys, with the parsed values."""
    if isinstance(raw, dict) and isinstance(parsed, dict):
        return {key: _converted(value, parsed[key]) if key in parsed else value for key, value in raw.items()}
    return parsed


def _fault(options: Tree, error: Any) -> Fault:
    path = tuple(_real_path(options, error["loc"]))
    kind = error["type"]
    if kind == "extra_forbidden":
        return ".".join(path), unknown_key(error["loc"])
    if kind == "missing":
        return ".".join(path), "is missing"
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    if (path and path[-1] == "type") or kind == "literal_error":
        message += _nearest_choice(error)
    if kind == "value_error" and isinstance(error["input"], dict):  # of several keys, which the message names
        return ".".join([*_real_path(options, (*error["loc"], ""))][:-1]), message
    shown = repr(error["input"])
    return ".".join(path), f"{message[:1].lower()}{message[1:]}, got {shown if len(shown) < 60 else shown[:57] + '...'}"


def _real_path(options: Tree, loc: Sequence[Any]) -> Iterator[str]:
    """Pydantic's location without the names of union members, which are not in the file."""
    block: Any = options
    for number, part in enumerate(loc):
        if isinstance(block, dict) and part not in block and number < len(loc) - 1 and part != "[key]":
            continue
        if part == "[key]" or (not isinstance(block, (dict, list)) and number):
            return
        yield str(part)
        inside = (isinstance(block, dict) and part in block) or (isinstance(block, list) and isinstance(part, int))
        block = block[part] if inside else None


def _nearest_choice(error: Any) -> str:
    choices = [
        word.strip(" '") for word in str(error.get("ctx", {}).get("expected", "")).replace(" or ", ",").split(",")
    ]
    hint = did_you_mean(str(error["input"]), choices, otherwise="")
    return hint and f" ({hint})"


def _ignored(model: BaseModel, place: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Keys in use that nothing reads."""
    for name in sorted(model.model_fields_set):
        value = getattr(model, name)
        info = type(model).model_fields.get(name)
        if info is not None and (reason := why_unused(info)) is not None:
            yield ".".join((*place, name)), reason
        members = value.items() if isinstance(value, dict) else [("", value)]
        for key, member in members:
            if isinstance(member, BaseModel):
                yield from _ignored(member, (*place, name, key) if key else (*place, name))


def reference() -> str:
    """Every key of the schema as Markdown tables: `docs/options.md`."""
    return "\n".join(_reference_lines()) + "\n"


def _reference_lines() -> Iterator[str]:
    yield "# Option files"
    yield ""
    yield "Every key, written by `gcfsr check-options --reference` from the schema that checks option files. Keys of"
    yield "BasicSR that nothing uses are accepted and reported as ignored; they are left out here."
    seen: set[type[BaseModel]] = set()
    for place, model in blocks():
        keys = [name for name, info in model.model_fields.items() if why_unused(info) is None]
        if model in seen or (issubclass(model, OpenSection) and len(keys) <= 2):  # a third party's class
            continue
        seen.add(model)
        yield from ("", f"## {': '.join(f'`{part}`' for part in place if part != '*') or 'The file'}", "")
        yield from (" ".join((model.__doc__ or "").split()), "", "| key | type, default | meaning |", "|---|---|---|")
        properties = model.model_json_schema()["properties"]
        for name in keys:
            meaning = model.model_fields[name].description or ""
            kind = f"{_kind(properties[name])}{_default(model.model_fields[name])}"
            yield f"| `{name}` | {kind} | {meaning.replace('|', 'or')} |".replace("|  |", "| |")


def _kind(schema: Tree) -> str:
    """A JSON schema's type as text."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [_kind(one) for one in schema.get("anyOf", schema.get("oneOf")) if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}s"
    words = {"number": "number", "integer": "whole number", "boolean": "true or false", "string": "text"}
    return words.get(schema.get("type", ""), "block")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "; required"
    value = info.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    return f"; default `{str(value).lower() if isinstance(value, bool) else value}`"


def json_schema() -> str:
    """The JSON schema of option files, for editors: `docs/options.schema.json`."""
    return json.dumps(Options.model_json_schema(), indent=1, sort_keys=True) + "\n"
