"""Training with several conditions: the feed, moved dials, the estimator's loss, growth from one condition."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch import GCFSR, GCFSRError, save_generator
from gcfsr_arch.estimator import Estimate, estimate_loss, from_head_scale, on_head_scale
from gcfsr_arch.training import losses
from gcfsr_arch.training.options import check
from gcfsr_arch.training.options.report import read_options
from gcfsr_arch.training.step import Batch, batch_on

NAMES = ["factor", "blur", "noise", "jpeg"]
DIALS: dict[str, Any] = {
    "network_g__conditions": NAMES,
    "network_g__estimator": True,
    "train__estimate_opt": {"type": "EstimateLoss"},
}


def batch(tiny: ModuleType, n: int = 4, seed: int = 0) -> dict[str, Any]:
    """A batch with conditions and what each degradation did."""
    data, rng = tiny.batch(n, seed), torch.Generator().manual_seed(seed + 1)
    others = torch.rand(n, 3, generator=rng)
    parts = 0.1 * torch.randn(n, 3, *data["lq"].shape[1:], generator=rng)
    return data | {"conditions": torch.cat([data["s"][:, None], others], 1), "contributions": parts}


def test_the_network_gets_its_conditions_in_its_order(tiny: ModuleType) -> None:
    model = tiny.build(**{**DIALS, "network_g__conditions": ["factor", "jpeg", "blur"]})
    data = batch(tiny)
    model.feed_data(data)
    assert torch.equal(model.batch.s, data["conditions"][:, [0, 3, 1]])
    assert torch.equal(model.batch.contributions, data["contributions"][:, [2, 0]])
    assert torch.equal(model.batch.part(slice(1, 3)).contributions, data["contributions"][1:3, [2, 0]])


def test_every_parameter_learns_the_estimators_too(tiny: ModuleType) -> None:
    mismatch = {"prob": 0.5, "octaves": 1, "gain": 0.35, "dials": 0.5}
    model = tiny.build(**DIALS, train__mismatch=mismatch, train__noise="random")
    kept = tiny.record_gradients(model.step.g)
    for iteration in (1, 2):  # the first opens the zero weights of the estimator's last layer
        model.feed_data(batch(tiny, seed=iteration))
        model.optimize_parameters(iteration)
    names = [name for name, _ in model.net_g.named_parameters()]
    assert [names[i] for i in range(len(names)) if i not in kept[1] or not (kept[1][i] != 0).any()] == []
    assert "l_g_estimate" in model.get_current_log()


@pytest.mark.parametrize("detach", [True, False])
def test_the_encoder_learns_from_the_estimate_on_demand_alone(tiny: ModuleType, detach: bool) -> None:
    found = []
    for weight in (0.0, 10.0):
        loss = {"type": "EstimateLoss", "loss_weight": weight, "detach": detach}
        model = tiny.build(**DIALS | {"train__estimate_opt": loss})
        torch.nn.init.ones_(model.net_g.estimator.out.weight)
        kept = tiny.record_gradients(model.step.g)
        model.feed_data(batch(tiny))
        torch.manual_seed(0)
        model.optimize_parameters(1)
        first = [name for name, _ in model.net_g.named_parameters()].index("encoder.first.weight")
        found.append(kept[0][first])
    assert torch.equal(*found) == detach


def test_a_dial_below_its_place_leaves_its_share_and_one_above_leaves_nothing() -> None:
    true = torch.tensor([[0.8, 0.4, 0.0], [0.5, 0.5, 0.5]])
    used = torch.tensor([[0.2, 0.9, 0.3], [0.5, 0.0, 0.25]])
    left = losses.share_left(true, used)
    torch.testing.assert_close(left, torch.tensor([[0.75, 0.0, 0.0], [0.0, 1.0, 0.5]]))
    parts = torch.randn(2, 3, 3, 8, 8)
    by_hand = torch.stack([0.75 * parts[0, 0], parts[1, 1] + 0.5 * parts[1, 2]])
    torch.testing.assert_close(losses.remainder(left, parts), by_hand)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_is_left_falls_with_the_dial(true: float, one: float, other: float) -> None:
    shares = (
        losses.share_left(torch.tensor([[true]]), torch.tensor([[min(one, other)]])).item(),
        losses.share_left(torch.tensor([[true]]), torch.tensor([[max(one, other)]])).item(),
    )
    assert 1 >= shares[0] >= shares[1] >= 0


def test_an_output_that_keeps_its_share_has_no_loss() -> None:
    gt, parts, left = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 3, 8, 8), torch.rand(2, 3)
    batch = Batch(gt, gt, torch.rand(2, 4), torch.ones(2), contributions=parts, left=left)
    kept = gt + (left[:, :, None, None, None] * parts).sum(1)
    torch.testing.assert_close(batch.judged(kept), gt)


def test_the_share_of_moved_settings_is_as_configured() -> None:
    torch.manual_seed(0)
    true = torch.rand(4000, 3)
    assert torch.equal(losses.draw_settings(true, 0.0), true)
    moved = losses.draw_settings(true, 0.3)
    assert ((moved != true).float().mean() - 0.3).abs() < 0.03
    assert 0 <= moved.min() <= moved.max() <= 1


def test_the_estimate_is_inverse_to_its_scale() -> None:
    s = torch.rand(50, 4) * 0.95 + 0.05
    back = from_head_scale(Estimate(on_head_scale(s), torch.zeros(50, 4)))
    torch.testing.assert_close(back.mean, s)


def test_the_estimators_loss_is_the_normal_distributions() -> None:
    s, mean, deviation = torch.rand(8, 4), torch.rand(8, 4), torch.rand(8, 4) + 0.1
    normal = torch.distributions.Normal(mean, deviation).log_prob(on_head_scale(s))
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(estimate_loss(Estimate(mean, deviation), s), -(normal + constant).mean())


def test_a_checkpoint_of_one_condition_is_grown(tiny: ModuleType, tmp_path: Path) -> None:
    one = tiny.build(seed=7).net_g
    save_generator(one, tmp_path / "one.safetensors")
    path = {"pretrain_network_g": str(tmp_path / "one.safetensors")}
    model = tiny.build(**DIALS, path=path)
    data = batch(tiny)
    for net in (model.net_g, model.net_g_ema):
        torch.testing.assert_close(
            net(data["lq"], data["conditions"], noise="zero"), one(data["lq"], data["s"], noise="zero"),
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip


def test_a_data_set_without_conditions_is_refused(tiny: ModuleType) -> None:
    model = tiny.build(**DIALS)
    with pytest.raises(GCFSRError, match=r"samples with conditions \(4,\): factor, blur, noise, jpeg"):
        batch_on(model.device, tiny.batch(), model.net_g, model.engine)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"train": {"estimate_opt": None}}, "train.estimate_opt"),
        ({"network_g": {"estimator": False}}, "network_g.estimator"),
        ({"network_g": {"conditions": ["factor"]}}, "train.mismatch.dials"),
        ({"network_g": {"conditions": ["factor", "haze"]}}, "network_g.conditions.1"),
        ({"datasets": {"train": {"contributions": False}}}, "datasets.train.contributions"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_named(changes: dict[str, Any], path: str) -> None:
    options, _ = read_options(Path(__file__).parents[2] / "options/train_gcfsr_256_dials.yml")
    for block, values in changes.items():
        for key, value in values.items():
            place = options[block]
            place[key] = place[key] | value if isinstance(value, dict) else value
    assert path in [place for place, _ in check(options).faults]


def test_the_estimator_of_a_network_without_one_is_named() -> None:
    net = GCFSR(32, narrow=1 / 32, num_style_feat=16)
    with pytest.raises(GCFSRError, match="estimator: true"):
        net.estimate(net.encode(torch.zeros(1, 3, 32, 32)))
    with pytest.raises(GCFSRError, match="blind"):
        GCFSR(32, narrow=1 / 32, blind=True, estimator=True)
