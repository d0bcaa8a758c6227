"""Checks that need more than one key. They read raw options, so they work beside other faults."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from gcfsr_arch.training.options_schema import SCHEDULERS

Fault = tuple[str, str]
LOSSES = ("pixel_opt", "ssim_opt", "perceptual_opt", "feature_opt", "consistency_opt", "gan_opt")


def cross_faults(options: dict[str, Any], is_train: bool) -> list[Fault]:
    """Faults of keys against one another: (path, what is wrong)."""
    checks = [_blocks, _sizes, _factors, _grid, _blind, _scheduler, _losses, _loaders]
    return [fault for check in checks for fault in check(options, is_train)]


def _get(options: Any, *path: str) -> Any:
    for key in path:
        options = options.get(key) if isinstance(options, dict) else None
    return options


def _phases(options: Any) -> list[str]:
    """Names of the blocks of `datasets` that are blocks."""
    datasets = _get(options, "datasets")
    return (
        [str(phase) for phase, block in datasets.items() if isinstance(block, dict)]
        if isinstance(datasets, dict)
        else []
    )


def _number(options: Any, *path: str) -> float | None:
    value = _get(options, *path)
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _numbers(options: Any, *path: str) -> list[float] | None:
    values = _get(options, *path)
    if not isinstance(values, list):
        return None
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return None


def _blocks(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    for block in ("train", "logger") if is_train else ():
        if options.get(block) is None:
            yield block, "is missing, training needs it"
    datasets = _get(options, "datasets")
    if not isinstance(datasets, dict):
        return
    if is_train and "train" not in datasets:
        yield "datasets.train", "is missing, training needs it"
    for phase in datasets:
        if is_train and str(phase).startswith("test"):
            yield f"datasets.{phase}", "belongs to testing; name it val or val_2 to validate while training"
    if is_train and any(str(p).startswith("val") for p in datasets) and options.get("val") is None:
        yield "val", "is missing though datasets has a validation set"
    if is_train and options.get("val") is not None and _get(options, "val", "val_freq") is None:
        yield "val.val_freq", "is missing, validation while training needs it"


def _sizes(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    size = _number(options, "network_g", "out_size")
    if size is None:
        return
    places = [("network_d",), *(("datasets", phase) for phase in _phases(options))]
    for place in places:
        other = _number(options, *place, "out_size")
        if other is not None and other != size:
            yield ".".join((*place, "out_size")), f"is {other:g} but network_g.out_size is {size:g}; they must agree"


def _factors(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    size = _number(options, "network_g", "out_size")
    own = _max_factor(options)
    for phase in _phases(options):
        place, block = f"datasets.{phase}", options["datasets"][phase]
        if _get(block, "type") != "MultiFactorDegradationDataset":
            continue
        given = [key for key in ("factors", "factor_range", "factor") if block.get(key) is not None]
        if len(given) != 1:
            yield (
                place,
                f"needs exactly one of factors, factor_range and factor, it has {' and '.join(given) or 'none'}",
            )
        top = _number(block, "max_factor") or 64
        if own and top != own:
            yield (
                f"{place}.max_factor",
                f"is {top:g} but network_g's is {own:g}; they must agree, s = factor / max_factor",
            )
        for key in given:
            values = _numbers(block, key) or [v for v in [_number(block, key)] if v is not None]
            if values and not 1 <= min(values) <= max(values) <= min(top, size or top):
                yield f"{place}.{key}", f"must lie between 1 and {min(top, size or top):g} (max_factor, out_size)"


def _max_factor(options: dict[str, Any]) -> float | None:
    """The network's factor of s = 1: its own, the released data sets' `cond_norm`, or what its size stands for."""
    norms = [_number(options, "datasets", phase, "cond_norm") for phase in _phases(options)]
    size = _number(options, "network_g", "out_size")
    usual = size and (64 if size >= 1024 else 32)
    return next(filter(None, [_number(options, "network_g", "max_factor"), *norms, usual]), None)


def _grid(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    factors, top = _numbers(options, "val", "grid_factors"), _max_factor(options)
    if factors and top and max(factors) > top and not _get(options, "network_g", "blind"):
        yield "val.grid_factors", f"must be at most {top:g}, network_g's max_factor"


def _blind(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    for phase in _phases(options):
        place, block = f"datasets.{phase}", options["datasets"][phase]
        if (_number(block, "blur_kernel_size") or 1) % 2 == 0:
            yield f"{place}.blur_kernel_size", "must be odd"
        kinds, probs = _get(block, "kernel_list"), _numbers(block, "kernel_prob")
        if isinstance(kinds, list) and probs is not None and (len(kinds) != len(probs) or sum(probs) <= 0):
            yield f"{place}.kernel_prob", "must hold one probability per kind of kernel_list, not all 0"


def _scheduler(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    kind = _get(options, "train", "scheduler", "type")
    if isinstance(kind, str) and kind not in SCHEDULERS:
        close = get_close_matches(kind, SCHEDULERS, n=1) or sorted(SCHEDULERS)
        yield "train.scheduler.type", f"unknown name {kind!r}, did you mean {' or '.join(map(repr, close))}?"
    for first, second in (("periods", "restart_weights"), ("restarts", "restart_weights")):
        left, right = _get(options, "train", "scheduler", first), _get(options, "train", "scheduler", second)
        if isinstance(left, list) and len(left) != len(right if isinstance(right, list) else [1]):
            yield f"train.scheduler.{second}", f"must be as long as {first}, which has {len(left)}"


def _losses(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    train = options.get("train")
    if not isinstance(train, dict):
        return
    if train.get("gan_opt") is not None:
        if options.get("network_d") is None:
            yield "network_d", "is missing, train.gan_opt needs it"
        if train.get("optim_d") is None:
            yield "train.optim_d", "is missing, train.gan_opt needs it"
    if not any(train.get(key) for key in LOSSES):
        yield "train", f"has no loss; set at least one of {', '.join(LOSSES)}"
    if train.get("mismatch") and not train.get("consistency_opt"):
        yield "train.consistency_opt", "is missing, train.mismatch needs it"


def _loaders(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    train = _get(options, "datasets", "train")
    if not is_train or not isinstance(train, dict):
        return
    for key in ("num_worker_per_gpu", "batch_size_per_gpu"):
        if train.get(key) is None:
            yield f"datasets.train.{key}", "is missing, training needs it"
    if train.get("prefetch_mode") == "cuda" and train.get("pin_memory") is not True:
        yield "datasets.train.pin_memory", "must be true for prefetch_mode cuda"
    if train.get("persistent_workers") is True and _number(train, "num_worker_per_gpu") == 0:
        yield "datasets.train.persistent_workers", "needs num_worker_per_gpu above 0"
