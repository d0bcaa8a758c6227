"""Names that option files may use for classes: ours without loading BasicSR, others' from its registries."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from gcfsr_arch.errors import did_you_mean
from gcfsr_arch.training.options.data import DATASETS
from gcfsr_arch.training.options.metrics import METRICS
from gcfsr_arch.training.options.networks import DISCRIMINATORS, GENERATORS

Fault = tuple[str, str]
MODELS = ("GCFSRModel", "GCFSR_Model")


def registry_faults(options: dict[str, Any]) -> list[Fault]:
    """Faults of `type` keys: names that no registry holds, and arguments that a foreign network does not take."""
    faults: list[Fault] = []
    for place, block, known, registry in typed_blocks(options):
        kind = block.get("type") if isinstance(block, dict) else None
        key = place if registry == "MODEL_REGISTRY" else f"{place}.type"
        if not isinstance(kind, str) or kind in known:
            continue
        theirs = registered(registry)
        if theirs is None:
            faults.append((key, f"{kind!r} is not one of {', '.join(known)} and BasicSR is not installed"))
        elif kind not in theirs:
            faults.append((key, f"unknown name {kind!r}, {did_you_mean(kind, sorted({*known, *theirs}))}"))
        elif registry == "MODEL_REGISTRY":
            if not any(base.__module__.startswith("gcfsr_arch.") for base in theirs[kind].__mro__):
                faults.append((key, f"{kind!r} is not a model of gcfsr; BasicSR reads its options unchecked"))
        elif registry == "ARCH_REGISTRY":
            faults += [(f"{place}.{name}", why) for name, why in _argument_faults(theirs[kind], block)]
    return faults


def typed_blocks(options: dict[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...], str]]:
    """Every block with a `type`: its place, the block, the names that are ours, the registry of all others."""
    yield "model_type", {"type": options.get("model_type")}, MODELS, "MODEL_REGISTRY"
    yield "network_g", options.get("network_g"), tuple(GENERATORS), "ARCH_REGISTRY"
    yield "network_d", options.get("network_d"), tuple(DISCRIMINATORS), "ARCH_REGISTRY"
    datasets = options.get("datasets")
    for phase, block in datasets.items() if isinstance(datasets, dict) else ():
        yield f"datasets.{phase}", block, tuple(DATASETS), "DATASET_REGISTRY"
    metrics = (options.get("val") or {}).get("metrics") if isinstance(options.get("val"), dict) else None
    for name, block in metrics.items() if isinstance(metrics, dict) else ():
        yield f"val.metrics.{name}", block, tuple(METRICS), "METRIC_REGISTRY"


def registered(registry: str) -> dict[str, Any] | None:
    """Name -> class of one of BasicSR's registries with ours in it; None without BasicSR."""
    if find_spec("basicsr") is None:
        return None
    import_module("gcfsr_arch.register")
    for module in ("archs", "data", "metrics", "models"):
        import_module(f"basicsr.{module}")
    return {name: kind for name, kind in getattr(import_module("basicsr.utils.registry"), registry)}  # noqa: C416 - no dict


def _argument_faults(network: Any, block: dict[str, Any]) -> Iterator[Fault]:
    parameters = inspect.signature(network).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in block:
        if key != "type" and key not in parameters:
            none = f"{block['type']} takes no such argument"
            yield key, f"unknown key, {did_you_mean(key, parameters, otherwise=none)}"
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in block:
            yield name, f"is missing, {block['type']} needs it"
