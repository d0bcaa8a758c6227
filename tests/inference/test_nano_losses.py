"""What the recipe of nano adds to the training step: the dial's meaning, shared features, factors by octaves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import gcfsr_arch.register  # noqa: F401  (BasicSR's imports come in the right order)
from gcfsr_arch.training.engine import Engine
from gcfsr_arch.training.losses import dial_gain, undo_dial
from gcfsr_arch.training.losses.criteria import Criteria
from gcfsr_arch.training.losses.features import FeatureDiscriminator
from gcfsr_arch.training.options.schema import Losses
from gcfsr_arch.training.step import Batch
from gcfsr_datasets.degradation import draw_factor


def test_a_moved_dial_scales_the_detail_by_the_power_of_its_move() -> None:
    s, used = torch.tensor([0.25, 0.5, 0.5]), torch.tensor([1.0, 0.5, 0.125])
    assert torch.allclose(dial_gain(s, used, 0.5), torch.tensor([2.0, 1.0, 0.5]))


def test_an_image_with_scaled_detail_is_judged_as_the_ground_truth() -> None:
    lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    gain = torch.tensor([0.5, 3.0])
    turned = lq + gain.view(2, 1, 1, 1) * (gt - lq)
    batch = Batch(lq, gt, None, torch.ones(2), None, "zero", gain)
    assert torch.allclose(batch.judged(turned), gt, atol=1e-6)
    assert torch.equal(batch.part(slice(1, 2)).gain, gain[1:])
    assert torch.equal(undo_dial(turned, lq, gain), batch.judged(turned))


def test_the_dial_of_a_worn_input_scales_what_lies_beyond_its_clean_reduction() -> None:
    lq, gt, base = (torch.rand(2, 3, 8, 8) for _ in range(3))
    gain = torch.tensor([0.5, 3.0])
    batch = Batch(lq, gt, None, torch.ones(2), None, "zero", gain, base=base)
    assert torch.allclose(batch.judged(base + gain.view(2, 1, 1, 1) * (gt - base)), gt, atol=1e-6)
    assert torch.equal(batch.part(slice(1, 2)).base, base[1:])


@pytest.fixture(scope="module")
def squeezenets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same random SqueezeNet under two names."""
    from torchvision.models import squeezenet1_1

    folder = tmp_path_factory.mktemp("squeezenet")
    state = squeezenet1_1(weights=None).state_dict()
    for name in ("a.pth", "b.pth"):
        torch.save(state, folder / name)
    return [folder / "a.pth", folder / "b.pth"]


def test_features_that_the_loss_and_d_share_give_the_same_losses_and_gradients(squeezenets: list[Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    output, gt = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    judge = FeatureDiscriminator(str(squeezenets[0]), channels=8).eval()
    calls: list[int] = []
    judge.features.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for weights in squeezenets:  # one path: shared; two: apart
        train = {
            "feature_opt": {"weights": str(weights), "loss_weight": 0.3},
            "gan_opt": {"gan_type": "hinge", "loss_weight": 0.1},
        }
        x = output.clone().requires_grad_()
        losses = Criteria(Losses(**train)).generator(
            x, SimpleNamespace(gt=gt, matched=None, factor=[4, 4]), judge, Engine()
        )
        found.append((losses, torch.autograd.grad(sum(losses.values()), x)[0]))
    (shared, shared_gradient), (apart, gradient) = found
    assert shared.keys() == apart.keys() == {"l_g_feature", "l_g_gan"}
    for name, value in shared.items():
        assert torch.allclose(value, apart[name], rtol=1e-6), name
    assert torch.allclose(shared_gradient, gradient, atol=1e-8)
    assert len(calls) == 1  # apart alone: D has its own then


@pytest.mark.parametrize("loss", [0, 1, None])  # over the same features as D, over others, none
def test_a_small_factor_is_adversarial_in_part_only(squeezenets: list[Path], loss: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    output, gt = (torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    judge = FeatureDiscriminator(str(squeezenets[0]), channels=8).eval()
    feature = {} if loss is None else {"feature_opt": {"weights": str(squeezenets[loss]), "loss_weight": 0.3}}
    batch = SimpleNamespace(gt=gt, matched=None, factor=[1.0, 2.0, 4.0, 9.0])

    def gradients(**options: float) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        x = output.clone().requires_grad_()
        train = feature | {"gan_opt": {"gan_type": "hinge", "loss_weight": 0.1, **options}}
        losses = Criteria(Losses(**train)).generator(x, batch, judge, Engine())
        return losses, [torch.autograd.grad(value, x, retain_graph=True)[0] for value in losses.values()]

    plain, eased = gradients(), gradients(full_factor=4.0)
    assert plain[0] == eased[0]
    share = torch.tensor([0.0, 0.5, 1.0, 1.0]).view(4, 1, 1, 1)
    torch.testing.assert_close(eased[1][-1], plain[1][-1] * share)
    for one, other in zip(eased[1][:-1], plain[1][:-1], strict=True):
        assert torch.equal(one, other)


def test_every_octave_is_drawn_as_often() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_factor(rng, 128, 2, 16, log=True) for _ in range(3000)])
    assert drawn.min() >= 2
    assert drawn.max() <= 16
    share, _ = np.histogram(np.log2(drawn), [0.999, 2, 3, 4.001])
    assert np.abs(share / 3000 - 1 / 3).max() < 0.05
