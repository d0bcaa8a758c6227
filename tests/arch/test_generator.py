"""Properties of the network: shapes, Eq. 4's unit pairs, encode + decode, batches, noise, gradients, compilers."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from gcfsr_arch import GCFSR, GCFSRDiscriminator, GCFSRError, ops
from gcfsr_arch.discriminator import minibatch_std
from gcfsr_arch.modulation import unit_pair


def tiny(**options):
    """A real network of milliseconds, with noise strengths and biases away from zero."""
    torch.manual_seed(0)
    net = GCFSR(**{"out_size": 64, "num_style_feat": 16, "narrow": 1 / 64, **options})
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "noise_strength" in name or name.endswith("bias"):
                p.add_(torch.randn_like(p) * 0.3)
    return net.eval()


def image(batch=2, size=64, seed=1):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


VARIANTS = [
    {}, {"variant": "released"}, {"blind": True}, {"variant": "released", "blind": True}, {"style_modulation": False},
    {"feature_modulation": False}, {"out_size": 32}, {"resample_kernel": (1, 2, 1)},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_forward_is_decode_after_encode_and_a_batch_is_its_singles(options):
    net = tiny(**options)
    x = image(size=net.out_size)
    with torch.no_grad():
        y = net(x, torch.tensor([0.2, 0.9]), noise="fixed")
        features = net.encode(x)
        torch.testing.assert_close(net.decode(features, torch.tensor([[0.2], [0.9]]), noise="fixed"), y)
        singles = [net(x[i : i + 1], s, noise="fixed") for i, s in enumerate((0.2, 0.9))]
    assert y.shape == x.shape
    torch.testing.assert_close(torch.cat(singles), y, atol=1e-5, rtol=1e-4)


def test_one_encoding_serves_several_strengths():
    net, x = tiny(), image(1)
    with torch.no_grad():
        together = net.decode(net.encode(x), torch.tensor([0.0, 0.5, 1.0]), noise="fixed")
        apart = [net(x, s, noise="fixed") for s in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.sampled_from(["paper", "released"]))
@example(0.84375, "paper")  # a pair so short that the eps of Eq. 4 is seen
def test_sigmas_have_unit_length(s, variant):
    net = tiny(variant=variant, out_size=32)
    for size, (enc, gen) in net.sigmas(s).items():
        assert enc.shape == gen.shape == (1, net.encoder.skip[str(size)].weight.shape[0])
        raw = sum(sigma.double() ** 2 for sigma in net.modulation.raw(torch.tensor([[s]]), size))
        torch.testing.assert_close((enc**2 + gen**2).double(), raw / (raw + 1e-8), atol=1e-6, rtol=0)
        if variant == "paper":
            assert (enc >= 0).all()
            assert (gen >= 0).all()


def test_unit_pair_is_equation_4():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([-4.0, 0.0])
    enc, gen = unit_pair(a, b)
    torch.testing.assert_close(enc, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(gen, torch.tensor([-0.8, 0.0]))


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_every_shape_of_s_means_the_same(variant):
    net, x = tiny(variant=variant), image()
    with torch.no_grad():
        expected = net(x, 0.3, noise="fixed")
        constant = torch.full((2, 1, 16, 16), 0.3)
        for s in (torch.tensor(0.3), torch.full((2,), 0.3), torch.full((2, 1), 0.3), torch.full((2, 3), 0.3), constant):
            torch.testing.assert_close(net(x, s, noise="fixed"), expected, atol=2e-5, rtol=1e-4)
        left = torch.cat([torch.full((1, 1, 64, 32), 0.1), torch.full((1, 1, 64, 32), 0.9)], dim=3)
        y = net(x, left, noise="fixed")
        levels = net(x, torch.tensor([[0.1, 0.1, 0.9]]), noise="fixed")
    near, far = net(x, 0.1, noise="fixed"), net(x, 0.9, noise="fixed")
    assert (y - near)[..., :4].abs().mean() < (y - far)[..., :4].abs().mean()  # the left edge follows its own s
    assert not torch.allclose(levels, near)
    assert not torch.allclose(levels, far)


def test_output_is_continuous_in_s():
    net, x = tiny(), image(1)
    with torch.no_grad():
        s = torch.linspace(0, 1, 101)
        y = net.decode(net.encode(x), s, noise="fixed")
    steps = (y[1:] - y[:-1]).abs().amax((1, 2, 3))
    assert steps.max() < 20 * steps.mean() + 1e-6
    assert steps.sum() > 0


def test_noise_kinds():
    net, x = tiny(), image()
    with torch.no_grad():
        call = lambda **kw: net(x, 0.5, **kw)  # noqa: E731
        assert torch.equal(call(noise="fixed"), call(noise="fixed"))
        assert torch.equal(call(noise="random", seed=3), call(noise="random", seed=3))
        assert not torch.equal(call(noise="random"), call(noise="random"))
        assert not torch.equal(call(noise="fixed", seed=1), call(noise="fixed", seed=2))
        zeros = [torch.zeros(shape) for shape in net.noise_shapes(2)]
        assert torch.equal(call(noise="zero"), call(noise=zeros))
        assert [shape[2] for shape in net.noise_shapes()] == [16, 32, 32, 64, 64]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_parameter_receives_a_gradient(options):
    net = tiny(**options).train()
    net(image(size=net.out_size), torch.tensor([0.3, 0.8])).square().mean().backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing


def test_recomputed_levels_give_the_same_gradients():
    net, x = tiny().train(), image()
    grads = []
    for recompute in (False, True):
        net.zero_grad()
        net.checkpoint_levels = recompute
        net(x, 0.5, noise="fixed").square().mean().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_parameters_at_1024_match_the_paper():
    for variant in ("paper", "released"):
        with torch.device("meta"):
            net = GCFSR(1024, variant=variant)
        total = sum(p.numel() for p in net.parameters())
        assert abs(total / 66.69e6 - 1) < 0.005, total


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_export_and_compile(variant):
    net, x = tiny(variant=variant, out_size=32), image(2, 32)
    s = torch.tensor([0.2, 0.7])
    noise = [torch.randn(shape) for shape in net.noise_shapes(2)]
    with torch.no_grad():
        expected = net(x, s, noise=noise)
        program = torch.export.export(net, (x, s), {"noise": noise})
        torch.testing.assert_close(program.module()(x, s, noise=noise), expected)
        compiled = torch.compile(net, backend="aot_eager")
        torch.testing.assert_close(compiled(x, s, noise=noise), expected)
    net.train()
    grads = [
        torch.autograd.grad(call(x, s, noise=noise).square().mean(), list(net.parameters())) for call in (compiled, net)
    ]
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*deprecated:DeprecationWarning")
def test_a_trace_serves_other_inputs_and_batches(variant):
    net = tiny(variant=variant, out_size=32)

    def inputs(batch):
        noise = [torch.randn(shape) for shape in net.noise_shapes(batch)]
        return image(batch, 32, seed=batch), torch.rand(batch), noise

    traced = torch.jit.trace(net, inputs(2), check_trace=False)
    for batch in (2, 3):
        given = inputs(batch)
        torch.testing.assert_close(traced(*given), net(*given))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GCFSR(48), "power of two"),
        (lambda: GCFSR("64"), "power of two"),
        (lambda: GCFSR(64.0), "power of two"),
        (lambda: GCFSR(1 << 20), "power of two"),
        (lambda: GCFSR(64, num_style_feat=0), "num_style_feat"),
        (lambda: GCFSR(64, narrow=float("nan")), "narrow"),
        (lambda: GCFSR(64, narrow=10**400), "narrow"),
        (lambda: GCFSR(64, min_factor=0), "min_factor"),
        (lambda: GCFSR(64, min_factor=-1), "min_factor"),
        (lambda: GCFSR(64, max_factor=float("inf")), "max_factor"),
        (lambda: GCFSR(64, min_factor=8, max_factor=4), "min_factor"),
        (lambda: GCFSR(64, resample_kernel=(1, -1)), "sum"),
        (lambda: GCFSR(64, blind=1), "blind"),
        (lambda: tiny()(image(), torch.zeros(3)), "batch of 3"),
        (lambda: tiny()(image(), torch.zeros(3, 1, 8, 8)), "batch of 3"),
        (lambda: tiny()(image(), 0.5, noise=[torch.zeros(1)] * 5), "noise"),
        (lambda: GCFSR(16), "power of two"),
        (lambda: GCFSR(64, variant="papre"), "variant"),
        (lambda: GCFSRDiscriminator(60), "power of two"),
        (lambda: GCFSRDiscriminator(32, resample_kernel=(1, -1)), "sum"),
        (lambda: tiny()(image(), None), "s is missing"),
        (lambda: tiny()(image(), 1.5), r"\[0, 1\]"),
        (lambda: tiny()(image(), float("nan")), r"\[0, 1\]"),
        (lambda: tiny()(image(), torch.zeros(2, 5)), "shape"),
        (lambda: tiny()(image(size=32), 0.5), "64, 64"),
        (lambda: tiny()(image(), 0.5, noise="loud"), "loud"),
        (lambda: tiny()(image(), 0.5, noise=[torch.zeros(1)]), "5"),
    ],
)
def test_wrong_arguments_end_in_one_line(call, words):
    with pytest.raises(GCFSRError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("std", [True, False])
def test_discriminator(std):
    torch.manual_seed(0)
    net = GCFSRDiscriminator(32, narrow=1 / 64, minibatch_std=std).double()
    x = image(4, 32).double().requires_grad_()
    out = net(x)
    assert out.shape == (4, 1)
    (grad,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    grad.square().sum().backward()  # R1's second derivative reaches every weight but the last bias
    missing = [n for n, p in net.named_parameters() if p.grad is None and not n.endswith("bias")]
    assert not missing


def r1_gradients(net, x):
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return torch.autograd.grad(grad.square().sum(), list(net.parameters()), materialize_grads=True)


@pytest.mark.parametrize("std", [True, False])
def test_r1_equals_autograds_own_derivatives(std, monkeypatch):
    torch.manual_seed(0)
    net, x = GCFSRDiscriminator(32, narrow=1 / 64, minibatch_std=std).double(), image(4, 32).double()
    ours = r1_gradients(net, x)
    monkeypatch.setattr(ops, "_differentiated", lambda x: False)
    torch.testing.assert_close(ours, r1_gradients(net, x))


class Count(TorchDispatchMode):
    """Counts operators and, among them, convolutions."""

    def __init__(self):
        super().__init__()
        self.operators = self.convolutions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators += 1
        self.convolutions += func is torch.ops.aten.convolution.default
        return func(*args, **kwargs or {})


def test_r1_takes_few_operations():
    """Autograd's own second derivative of depthwise convolutions takes 15,723 operators, 5,124 of them convolutions."""
    with torch.device("meta"):
        net, x = GCFSRDiscriminator(1024), torch.empty(3, 3, 1024, 1024, requires_grad=True)
    out = net(x).sum()
    with Count() as count:
        (grad,) = torch.autograd.grad(out, x, create_graph=True)
        grad.square().sum((1, 2, 3)).mean().backward()
    assert count.operators <= 587
    assert count.convolutions <= 84


def test_minibatch_std_equals_numpy():
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    y = minibatch_std(x)
    groups = x.numpy().reshape(4, 2, 3, 4, 4)
    expected = ((groups.var(axis=0) + 1e-8) ** 0.5).mean(axis=(1, 2, 3))
    for n in range(8):
        assert y[n, 3].unique().item() == pytest.approx(expected[n % 2])
