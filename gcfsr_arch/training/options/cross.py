"""Checks that need more than one key. They read raw options, so they work beside other faults."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from gcfsr_arch.errors import did_you_mean
from gcfsr_arch.training.options.data import DATASETS
from gcfsr_arch.training.options.metrics import CATALOGUE
from gcfsr_arch.training.options.networks import LISTED
from gcfsr_arch.training.options.optimizers import OPTIMIZERS, PACKAGES, SCHEDULE_FREE
from gcfsr_arch.training.options.schema import SCHEDULERS, Options, Train
from gcfsr_measure.catalogue import entry_of

Fault = tuple[str, str]
DEFAULT_MAX_FACTOR = {
    kind: section.model_fields["max_factor"].default
    for kind, section in DATASETS.items()
    if "max_factor" in section.model_fields
}
BATCH = "batch_size_per_gpu"
STYLEGAN2_R1 = 10.0  # its R1 weight, beside a discriminator's loss of weight 1
OF_DISCRIMINATOR = (  # keys of the block `train`
    *("r1_reg_weight", "r2_reg_weight", "net_d_pause", "net_d_reg_every", "net_d_iters", "net_d_init_iters"),
    "net_d_first",
)
LOSSES = (
    *("pixel_opt", "ssim_opt", "region_opt", "perceptual_opt"),
    *("feature_opt", "identity_opt", "consistency_opt", "gan_opt"),
)


def cross_faults(options: dict[str, Any], is_train: bool) -> list[Fault]:
    """Faults of keys against one another: (path, what is wrong)."""
    checks = [
        *(_blocks, _sizes, _factors, _dials, _grid, _optimizers, _scheduler, _losses, _loaders, _checkpoint),
        *(_average, _micro_batches, _metrics, _wandb),
    ]
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
    own = None if _get(options, "network_g", "blind") else _max_factor(options)
    for phase in _phases(options):
        block = options["datasets"][phase]
        default = _most_reduced(options, block) or DEFAULT_MAX_FACTOR.get(str(_get(block, "type")))
        top = _number(block, "max_factor") or default
        if own and top and top != own:
            yield (
                f"datasets.{phase}.max_factor",
                f"is {top:g} but network_g's is {own:g}; they must agree, s = factor / max_factor",
            )


def _most_reduced(options: Any, block: Any) -> float | None:
    """The value of s = 1 for a blind degradation and a network of several conditions."""
    several = len(_get(options, "network_g", "conditions") or ()) > 1
    if not several or _get(block, "type") != "BlindFaceDegradationDataset":
        return None
    default = DATASETS["BlindFaceDegradationDataset"].model_fields["downsample_range"].default
    return (_numbers(block, "downsample_range") or default)[-1]


def _dials(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    several = len(_get(options, "network_g", "conditions") or ()) > 1
    for key in ("second_order", "paired") if several else ():
        if _get(options, "datasets", "train", key):
            yield f"datasets.train.{key}", "gives no strengths of blur, noise and jpeg, which network_g.conditions need"
    estimator, loss = _get(options, "network_g", "estimator"), _get(options, "train", "estimate_opt")
    if is_train and estimator is True and loss is None:
        yield "train.estimate_opt", "is missing, network_g.estimator needs it"
    if loss is not None and estimator is not True:
        yield "network_g.estimator", "must be true for train.estimate_opt"
    if not _number(options, "train", "mismatch", "dials"):
        return
    if len(_get(options, "network_g", "conditions") or ()) < 2:
        yield "train.mismatch.dials", "needs more than one of network_g.conditions"
    if _get(options, "datasets", "train", "contributions") is not True:
        yield "datasets.train.contributions", "must be true for train.mismatch.dials"


def _max_factor(options: dict[str, Any]) -> float | None:
    """The network's factor of s = 1: its own, the released data sets' `cond_norm`, or its size's default."""
    norms = [_number(options, "datasets", phase, "cond_norm") for phase in _phases(options)]
    size = _number(options, "network_g", "out_size")
    usual = size and (64 if size >= 1024 else 32)
    return next(filter(None, [_number(options, "network_g", "max_factor"), *norms, usual]), None)


def _grid(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    factors, top = _numbers(options, "val", "grid_factors"), _max_factor(options)
    if factors and top and max(factors) > top and not _get(options, "network_g", "blind"):
        yield "val.grid_factors", f"must be at most {top:g}, network_g's max_factor"


def _optimizers(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    for key in ("optim_g", "optim_d"):
        kind = _get(options, "train", key, "type")
        if isinstance(kind, str) and kind not in OPTIMIZERS:
            yield f"train.{key}.type", f"unknown name {kind!r}, {did_you_mean(kind, OPTIMIZERS)}"
        module, package = PACKAGES.get(str(kind), ("torch", "torch"))
        if find_spec(module) is None:
            yield f"train.{key}.type", f"{kind} needs the package {package}: pip install 'gcfsr[optimizers]'"
    if _get(options, "train", "optim_g", "type") not in SCHEDULE_FREE:
        return
    for key in ("ema_decay", "ema_half_life", "ema_rampup"):
        if _get(options, "train", key):
            yield f"train.{key}", "a schedule-free optim_g averages the weights itself; remove the key"
    if _get(options, "train", "scheduler"):
        yield "train.scheduler", "a schedule-free optim_g needs no schedule but warmup_iter; remove the block"


def _scheduler(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    kind = _get(options, "train", "scheduler", "type")
    if isinstance(kind, str) and kind not in SCHEDULERS:
        yield "train.scheduler.type", f"unknown name {kind!r}, {did_you_mean(kind, SCHEDULERS)}"
    periods, total = _numbers(options, "train", "scheduler", "periods"), _number(options, "train", "total_iter")
    if periods and total and total - 1 > sum(periods):
        yield (
            "train.scheduler.periods",
            f"end after {sum(periods):g} iterations, before train.total_iter {total:g}; lengthen the last one",
        )
    fall = _number(options, "train", "scheduler", "decay")
    if fall and total and fall > total:
        yield "train.scheduler.decay", f"is {fall:g}, longer than train.total_iter {total:g}"
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
    listed = train.get("losses") if isinstance(train.get("losses"), list) else []
    if not listed and not any(train.get(key) for key in LOSSES):
        yield "train", f"has no loss; set at least one of losses, {', '.join(LOSSES)}"
    listed = [block for block in listed if isinstance(block, dict)]
    yield from _listed_losses(options, listed)
    yield from _windows(options, listed)
    if train.get("mismatch") and _get(options, "network_g", "blind") is True:
        yield "train.mismatch", "moves a dial, and network_g.blind has none; remove one of them"
    if train.get("mismatch") and not train.get("consistency_opt"):
        yield "train.consistency_opt", "is missing, train.mismatch needs it"


def _listed_losses(options: dict[str, Any], listed: list[dict[str, Any]]) -> Iterator[Fault]:
    """Faults of the list `train.losses`."""
    blocks = {"SSIMLoss": "ssim_opt", "RegionLoss": "region_opt", "IdentityLoss": "identity_opt"}
    blocks["PerceptualLoss"] = "perceptual_opt"
    kinds = [str(block.get("type")) for block in listed]
    for number, kind in enumerate(kinds):
        place = f"train.losses.{number}"
        if kind not in LISTED:
            yield f"{place}.type", f"unknown name {kind!r}, {did_you_mean(kind, LISTED)}"
        elif kind in kinds[:number]:
            yield f"{place}.type", f"{kind} is in the list already; add up the weights"
        elif kind in blocks and _get(options, "train", blocks[kind]):
            yield f"{place}.type", f"train.{blocks[kind]} is the same loss; remove one of them"
    free = _get(options, "train", "optim_g", "type") in SCHEDULE_FREE
    if "LDLLoss" in kinds and not (free or any(_get(options, "train", key) for key in ("ema_decay", "ema_half_life"))):
        yield "train.ema_decay", "is missing, LDLLoss compares with the moving average"


def _windows(options: dict[str, Any], listed: list[dict[str, Any]]) -> Iterator[Fault]:
    """Faults of SSIM's windows, which have to fit the image of every scale."""
    size, block = _number(options, "network_g", "out_size"), _get(options, "train", "ssim_opt")
    blocks = {f"train.losses.{number}": one for number, one in enumerate(listed)}
    if isinstance(block, dict):
        blocks["train.ssim_opt"] = {"type": "SSIMLoss", **block}
    for place, one in blocks.items():
        scales = {"SSIMLoss": 1.0, "MSSSIMLoss": _number({"scales": 5, **one}, "scales")}.get(str(one.get("type")))
        window = _number({"window": 11, **one}, "window")
        if not (size and window and scales and 1 <= scales <= 5) or size >= window * 2 ** (scales - 1):
            continue
        least = f"{window * 2 ** (scales - 1):g}"
        if scales > 1:
            yield f"{place}.scales", f"{scales:g} scales need out_size {least}; lower scales or window"
        else:
            yield f"{place}.window", f"{window:g} pixels need out_size {least}; lower window"


def _checkpoint(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    if not is_train and _get(options, "path", "pretrain_network_g") is None:
        yield "path.pretrain_network_g", "is missing, testing needs a checkpoint of the generator"


def _average(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    half_life = _number(options, "train", "ema_half_life")
    if half_life and _number(options, "train", "ema_decay"):
        yield "train.ema_decay", "is not used beside train.ema_half_life; remove one of them"
    if not half_life and _number(options, "train", "ema_rampup"):
        yield "train.ema_rampup", "is a share of train.ema_half_life, which is missing"


def _micro_batches(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    parts, batch = _number(options, "train", "engine", "accumulate"), _number(options, "datasets", "train", BATCH)
    if is_train and parts and batch and parts > batch:
        yield "train.engine.accumulate", f"is {parts:g}, more than the {batch:g} images of datasets.train.{BATCH}"


def _metrics(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    metrics = _get(options, "val", "metrics")
    for name, block in metrics.items() if isinstance(metrics, dict) else ():
        key = CATALOGUE.get(str(_get(block, "type")))
        for package in entry_of(key).packages if key else ():
            if find_spec(package) is None:
                yield f"val.metrics.{name}.type", f"needs the package {package}: pip install 'gcfsr[eval]'"
        border, size = _number(block, "crop_border"), _number(options, "network_g", "out_size")
        if border and size and 2 * border >= size:
            yield f"val.metrics.{name}.crop_border", f"leaves nothing of network_g.out_size {size:g}"


def _wandb(options: dict[str, Any], is_train: bool) -> Iterator[Fault]:
    if not is_train or not _get(options, "logger", "wandb", "project"):
        return
    if find_spec("wandb") is None:
        yield "logger.wandb", "needs the package wandb, which is not installed: pip install wandb, or set project: ~"
    if _get(options, "logger", "use_tb_logger") is not True:
        yield "logger.use_tb_logger", "must be true for logger.wandb, which follows TensorBoard"


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


def doubts(options: Options) -> Iterator[Fault]:
    """Values of valid options that are valid but probably not intended: (path, why)."""
    yield from _doubtful_metrics(options)
    yield from _doubtful_adversary(options)


def _doubtful_metrics(options: Options) -> Iterator[Fault]:
    metrics = (options.val and options.val.metrics) or {}
    for name, section in metrics.items():
        entry = entry_of(CATALOGUE[section.type]) if section.type in CATALOGUE else None
        if entry is not None and entry.higher != (section.better == "higher"):
            right = "higher" if entry.higher else "lower"
            yield f"val.metrics.{name}.better", f"is {section.better}, but {right} values of {entry.name} are better"


def _doubtful_adversary(options: Options) -> Iterator[Fault]:
    train = options.train
    if train is None:
        return
    for key in OF_DISCRIMINATOR if train.gan_opt is None else ():
        if getattr(train, key) != Train.model_fields[key].get_default():
            yield f"train.{key}", "is not used without train.gan_opt"
    if options.network_d is not None and train.gan_opt is None:
        yield "network_d", "is not used without train.gan_opt"
    if train.gan_opt is None or not train.r1_reg_weight or not train.gan_opt.scale_d:
        return
    scale = train.gan_opt.loss_weight
    relative = train.r1_reg_weight / scale if scale else float("inf")
    if relative > 10 * STYLEGAN2_R1:
        yield (
            "train.r1_reg_weight",
            f"is {train.r1_reg_weight:g} and D's loss is scaled by {scale:g}: relative to it R1 weighs {relative:g}; "
            f"StyleGAN2 has {STYLEGAN2_R1:g}: lower it to {STYLEGAN2_R1 * scale:g} or set train.gan_opt.scale_d: false",
        )
