"""Several conditions: every form of s, maps against the reference, growth from one condition, names in checkpoints."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch import GCFSR, GCFSRError, load_generator, reference, save_generator
from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.conditions import CONDITIONS, per_condition
from gcfsr_arch.estimator import MARGIN, ConditionEstimator, RunningNorm, estimate_loss, from_head_scale
from gcfsr_arch.growth import grow

K, LEVELS = len(CONDITIONS), 2


def network(conditions=CONDITIONS, seed=0, **options):
    """A real network of milliseconds whose parameters are all random."""
    torch.manual_seed(seed)
    net = GCFSR(32, narrow=1 / 32, num_style_feat=16, conditions=conditions, **options)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias") or "noise_strength" in name:
                parameter += 0.3 * torch.randn(parameter.shape)
    return net.eval()


def images(batch=2):
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def settings_of(batch=2):
    return torch.rand(batch, K, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_every_form_of_s_means_the_same():
    net, x, s = network(), images(), settings_of()
    expected = net(x, s, noise="zero")
    by_name = {name: s[:, i] for i, name in enumerate(CONDITIONS)}
    by_level = s[:, None].expand(-1, LEVELS, -1)
    maps = s[:, :, None, None].expand(-1, -1, 8, 8)
    mixed = {**by_name, "noise": maps[:, 2:3], "jpeg": by_name["jpeg"][:, None]}
    for form in (by_name, by_level, maps, mixed):
        torch.testing.assert_close(net(x, form, noise="zero"), expected, atol=1e-5, rtol=1e-4)
    by_name["blur"] = by_level[:, :, 1]
    torch.testing.assert_close(net(x, by_name, noise="zero"), expected)


@torch.no_grad()
def test_an_absent_degradation_is_zero_and_each_condition_acts():
    net, x = network(), images(1)
    none = net(x, torch.tensor([[0.5, 0, 0, 0]]), noise="zero")
    assert torch.equal(net(x, {"factor": 0.5}, noise="zero"), none)
    changed = [net(x, {"factor": 0.5, name: 0.9}, noise="zero") for name in CONDITIONS[1:]]
    for image in changed:
        assert (image - none).abs().max() > 1e-3
    assert (changed[0] - changed[1]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("form", ["vector", "levels", "maps"])
def test_the_network_equals_its_reference(form):
    net, x, draw = network(), images(), torch.Generator().manual_seed(3)
    shape = {"vector": (2, K), "levels": (2, LEVELS, K), "maps": (2, K, 20, 28)}[form]
    s, noise = torch.rand(shape, generator=draw), [torch.randn(shape) for shape in net.noise_shapes(2)]
    torch.testing.assert_close(net(x, s, noise=noise), reference.generate(net, x, s, noise), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_large_map_is_computed_in_parts(monkeypatch):
    net, s = network(), torch.rand(1, K, 32, 32)
    whole = net.sigmas(s)
    monkeypatch.setattr("gcfsr_arch.modulation.PIXELS", 100)
    for size, pair in net.sigmas(s).items():
        torch.testing.assert_close(pair.enc, whole[size].enc)
        torch.testing.assert_close(pair.enc**2 + pair.gen**2, torch.ones_like(pair.enc), atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=K, max_size=K))
def test_a_network_grown_to_several_conditions_is_the_same_function_at_every_setting(values):
    small = network(("factor",))
    large, x = grow(small, network(seed=1)), images(1)
    with torch.no_grad():
        grown, expected = large(x, torch.tensor([values]), noise="zero"), small(x, values[0], noise="zero")
    torch.testing.assert_close(grown, expected, atol=1e-5, rtol=1e-5)


def test_the_new_conditions_of_a_grown_network_learn():
    large = grow(network(("factor",)), network(seed=1)).train()
    large(images(), settings_of()).square().mean().backward()
    assert (large.modulation.hidden[0].weight.grad[:, 1:] != 0).any(0).all()


def test_conditions_in_another_order_do_not_grow():
    with pytest.raises(GCFSRError, match="the new ones come behind"):
        grow(network(("factor", "noise")), network())


def test_a_checkpoint_carries_its_conditions(tmp_path):
    save_generator(network(("factor", "noise")), tmp_path / "two.safetensors")
    assert load_generator(tmp_path / "two.safetensors").conditions == ("factor", "noise")


def test_all_conditions_and_the_estimator_are_known_by_the_weights_alone(tmp_path):
    net = network(estimator=True)
    torch.save({"params": net.state_dict()}, tmp_path / "bare.pth")
    loaded = load_generator(tmp_path / "bare.pth")
    assert (loaded.conditions, loaded.config.estimator) == (CONDITIONS, True)


@torch.no_grad()
def test_a_factor_alone_leaves_the_rest_to_the_estimator():
    net, x = network(estimator=True), images()
    torch.nn.init.normal_(net.estimator.out.weight)
    features = net.encode(x)
    told, (mean, deviation) = net.at_factor(features, 0.5), net.estimate(features)
    expected = (mean + MARGIN * deviation).clamp(0, 1)
    assert torch.equal(told[:, 1:], expected[:, 1:])
    assert (told[:, 0] == 0.5).all()
    assert network().at_factor(features, 0.5).tolist() == [[0.5, 0, 0, 0]] * 2


def test_a_checkpoint_of_one_condition_does_not_name_it(tmp_path):
    """So that it is, byte for byte, what it was before there were several."""
    save_generator(network(("factor",)), tmp_path / "one.safetensors")
    assert b"conditions" not in (tmp_path / "one.safetensors").read_bytes()
    _, config = read_state(tmp_path / "one.safetensors")
    assert config is not None
    assert config.conditions == ("factor",)


@torch.no_grad()
def test_a_trace_serves_other_batches():
    net, x, s = network(), images(3), settings_of(3)
    batch = torch.export.Dim("batch", min=1, max=64)

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, s):
            return self.net(x, s, noise="zero")

    shapes = ({0: batch}, {0: batch})
    program = torch.export.export(Fixed(), (images(2), settings_of(2)), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(x, s), net(x, s, noise="zero"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("s", "words"),
    [
        (0.5, r"s of shape \(\): pass \(N, 4\) for factor, blur, noise, jpeg"),
        (torch.zeros(4), r"s of shape \(4,\): pass \(N, 4\)"),
        (torch.zeros(2, 3), r"s of shape \(2, 3\): pass \(N, 4\)"),
        (torch.zeros(2, 1, 8, 8), r"\(2, 1, 8, 8\).* maps \(N, 4, H, W\)"),
        ({"factor": 0.5, "haze": 0.1}, "'haze' is not a condition of this network; it has factor, blur, noise, jpeg"),
        ({"noise": 0.5}, "'factor' is missing"),
        ({"factor": 0.5, "noise": 1.5}, "noise: s = 1.5"),
        ({"factor": 0.5, "noise": torch.zeros(2, 7)}, r"noise: s of shape \(2, 7\)"),
        ({"factor": torch.zeros(2), "noise": torch.zeros(3)}, "batches of 2 and 3"),
        ({"factor": torch.eye(LEVELS)[:1], "noise": torch.zeros(1, 1, 8, 8)}, "factor: strengths by level"),
        ({"factor": torch.zeros(1, 1, 8, 8), "noise": torch.zeros(1, 1, 8, 9)}, "maps of 8x8 and 8x9"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_ambiguous_or_wrong_s_ends_in_one_line(s, words):
    with pytest.raises(GCFSRError, match=words) as caught:
        network()(images(), s)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conditions": ()}, "conditions"),
        ({"conditions": ("noise", "factor")}, "must be 'factor', then"),
        ({"conditions": ("factor", "noise", "noise")}, "once at most"),
        ({"conditions": ("factor", "haze")}, "haze"),
        ({"conditions": "factor"}, "conditions"),
        ({"conditions": ["factor"] * 1000}, "conditions"),
        ({"conditions": ("factor", 3)}, "conditions"),
        ({"conditions": ("factor", "noise"), "blind": True}, "blind: false"),
        ({"conditions": ("factor", "noise"), "variant": "released"}, "variant: paper"),
    ],
    ids=str,
)
def test_wrong_conditions_are_refused(options, words):
    with pytest.raises(GCFSRError, match=words) as caught:
        GCFSR(32, narrow=1 / 32, **options)
    assert len(str(caught.value)) < 300


def test_one_condition_keeps_its_forms():
    like = torch.zeros(1)
    for s in (0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]]), torch.full((1, LEVELS), 0.5)):
        assert torch.equal(per_condition(s, ("factor",), LEVELS, like), torch.full((1, LEVELS, 1), 0.5))


def test_the_estimators_moments_are_those_of_everything_seen():
    norm, rng = RunningNorm(3).train(), torch.Generator().manual_seed(0)
    batches = [torch.randn(4, 3, generator=rng) * torch.tensor([1.0, 2, 3]) + 5 for _ in range(50)]
    for batch in batches:
        norm(batch)
    everything = torch.cat(batches)
    torch.testing.assert_close(norm.mean, everything.mean(0))
    expected = (everything - everything.mean(0)) / everything.std(0, correction=0)
    torch.testing.assert_close(norm.eval()(everything), expected, atol=1e-3, rtol=1e-3)
    before = norm.mean.clone()
    norm(everything + 100)
    norm.train()(torch.full((4, 3), float("nan")))
    assert torch.equal(norm.mean, before)


@torch.no_grad()
def test_the_estimators_features_do_not_change_with_the_contrast():
    net = network(estimator=True)
    skips = [torch.randn(2, c, size, size) for size, c in ((16, 16), (32, 16))]
    one, three = net.estimator(skips), net.estimator([3 * f for f in skips])
    torch.testing.assert_close(three.mean, one.mean, atol=0.05, rtol=0.05)


def test_an_estimator_learns_to_read_noise():
    """On features that are images themselves: flat squares with more or less noise."""
    torch.manual_seed(0)
    estimator = ConditionEstimator({32: 3}, 4).train()
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.02)

    def batch(n):
        s = torch.rand(n, 4)
        scene = torch.zeros(n, 3, 32, 32)
        scene[:, :, 8:20, 8:20] = 2
        return [scene + s[:, 2, None, None, None] * torch.randn(n, 3, 32, 32)], s

    for _ in range(150):
        skips, s = batch(16)
        loss = estimate_loss(estimator(skips), s)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    skips, s = batch(200)
    found = from_head_scale(estimator.eval()(skips))
    assert (found.mean[:, 2] - s[:, 2]).abs().mean() < 0.1
    assert (found.mean[:, 3] - s[:, 3]).abs().mean() > 0.15  # nothing tells it
    assert found.deviation[:, 2].mean() < 0.5 * found.deviation[:, 3].mean()
