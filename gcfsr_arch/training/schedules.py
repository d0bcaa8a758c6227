"""The learning rate as a function of the iteration alone.

Nothing about it is kept in a checkpoint, so a resumed run follows the schedule that its option file has now: a longer
run, other milestones, another learning rate. `MultiStep` and `Cosine` are BasicSR's schedulers, which count iterations
from 0; `iteration` here is the trainer's, which begins with 1.
"""

import math
from collections.abc import Callable

from gcfsr_arch.training.options.schema import Cosine, MultiStep, Train, WarmupStableDecay


def learning_rate(base: float, iteration: int, train: Train) -> float:
    """The learning rate of an iteration.

    Args:
        base: the optimiser's `lr`.
        iteration: from 1 on.
        train: the block `train`: `warmup_iter`, `scheduler`, `total_iter`.
    """
    if iteration < train.warmup_iter:
        return base * iteration / train.warmup_iter
    schedule = train.scheduler
    if isinstance(schedule, MultiStep):
        return multi_step(base, iteration - 1, schedule)
    if isinstance(schedule, Cosine):
        return cosine(base, iteration - 1, schedule)
    if isinstance(schedule, WarmupStableDecay):
        return warmup_stable_decay(base, iteration, train.total_iter, schedule)
    return base


def multi_step(base: float, done: int, schedule: MultiStep) -> float:
    """BasicSR's MultiStepRestartLR after `done` iterations: gamma at each milestone since the last restart."""
    restarts = zip(schedule.restarts, schedule.restart_weights, strict=True)
    since, weight = max((pair for pair in restarts if pair[0] <= done), default=(0, 1.0))
    passed = sum(since < milestone <= done for milestone in schedule.milestones)
    return base * weight * schedule.gamma**passed


def cosine(base: float, done: int, schedule: Cosine) -> float:
    """BasicSR's CosineAnnealingRestartLR after `done` iterations: half a cosine over each period, then `eta_min`."""
    begin = 0
    for period, weight in zip(schedule.periods, schedule.restart_weights, strict=True):
        if done <= begin + period:
            height = 0.5 * (1 + math.cos(math.pi * (done - begin) / period))
            return schedule.eta_min + weight * (base - schedule.eta_min) * height
        begin += period
    return schedule.eta_min


SHAPES: dict[str, Callable[[float], float]] = {  # progress of the fall in [0, 1] -> share of the learning rate
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "sqrt": lambda progress: 1 - math.sqrt(progress),
}


def warmup_stable_decay(base: float, iteration: int, total: int, schedule: WarmupStableDecay) -> float:
    """Warm-up, constant, and a fall that ends at `eta_min` in iteration `total` (Hu et al., 2024)."""
    if iteration < schedule.warmup:
        return base * iteration / schedule.warmup
    begin = total - schedule.decay
    if iteration <= begin:
        return base
    return schedule.eta_min + (base - schedule.eta_min) * SHAPES[schedule.shape]((iteration - begin) / schedule.decay)
