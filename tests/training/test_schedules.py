"""Learning rates against BasicSR's schedulers, step by step, and the properties of the others."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gcfsr_arch.training.options.schema import Train
from gcfsr_arch.training.schedules import learning_rate

BASE = 2e-3


def rates(total: int, scheduler: dict[str, Any] | None, **more: Any) -> list[float]:
    """Our learning rate of every iteration."""
    train = Train(total_iter=total, optim_g={"type": "Adam", "lr": BASE}, scheduler=scheduler, **more)
    return [learning_rate(BASE, iteration, train) for iteration in range(1, total + 1)]


SCHEDULERS: list[dict[str, Any]] = [
    {"type": "MultiStepLR", "milestones": [5, 8, 8, 30], "gamma": 0.5},
    {"type": "MultiStepRestartLR", "milestones": [3, 10, 15], "gamma": 0.3, "restarts": [0, 10, 20],
     "restart_weights": [1, 0.5, 0.25]},
    {"type": "CosineAnnealingRestartLR", "periods": [40], "restart_weights": [1], "eta_min": 1e-4},
    {"type": "CosineAnnealingRestartLR", "periods": [10, 7, 23], "restart_weights": [1, 0.5, 0.8], "eta_min": 1e-5},
]  # fmt: skip


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda s: f"{s['type']} {len(s)}")
def test_the_learning_rates_are_basicsrs(scheduler: dict[str, Any]) -> None:
    theirs = pytest.importorskip("basicsr.models.lr_scheduler")
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    options = {key: value for key, value in scheduler.items() if key != "type"}
    name = scheduler["type"].replace("MultiStepLR", "MultiStepRestartLR")
    made, wanted = getattr(theirs, name)(optimizer, **options), []
    for iteration in range(1, 41):
        if iteration > 1:
            optimizer.step()
            made.step()
        wanted.append(optimizer.param_groups[0]["lr"])
    assert rates(40, scheduler) == pytest.approx(wanted, rel=1e-12)


def test_without_a_scheduler_the_rate_is_constant_after_the_warm_up() -> None:
    assert rates(5, None) == [BASE] * 5
    assert rates(6, None, warmup_iter=4) == pytest.approx([BASE / 4, BASE / 2, BASE * 3 / 4, BASE, BASE, BASE])


@given(
    total=st.integers(1, 60), warmup=st.integers(0, 20), decay=st.integers(0, 60),
    shape=st.sampled_from(["linear", "cosine", "sqrt"]), eta_min=st.floats(0, BASE),
)  # fmt: skip
def test_warm_up_stable_decay(total: int, warmup: int, decay: int, shape: str, eta_min: float) -> None:
    scheduler = {"type": "WarmupStableDecayLR", "warmup": warmup, "decay": decay, "shape": shape, "eta_min": eta_min}
    found = rates(total, scheduler)
    assert all(0 <= rate <= BASE * (1 + 1e-12) for rate in found)
    assert found[warmup : max(total - decay, 0)] == [BASE] * len(found[warmup : max(total - decay, 0)])
    if decay and warmup < total:
        assert found[-1] == pytest.approx(eta_min, abs=1e-12)
    fall = found[max(warmup, total - decay) :]
    assert fall == sorted(fall, reverse=True)
    rise = found[: max(warmup - 1, 0)]
    assert rise == sorted(rise)


def test_a_longer_run_decays_later() -> None:
    scheduler = {"type": "WarmupStableDecayLR", "decay": 4, "shape": "linear"}
    assert rates(8, scheduler)[4:] == pytest.approx([BASE * 0.75, BASE / 2, BASE / 4, 0])
    assert rates(12, scheduler)[:8] == [BASE] * 8
