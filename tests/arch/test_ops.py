"""The operators against scipy, naive loops and float64 autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from gcfsr_arch import fast, ops


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4),
    st.integers(1, 5),
)  # fmt: skip
def test_upfirdn2d_equals_scipy(h, w, up, down, before, after, taps):
    x, kernel = rand(2, 3, h, w), rand(taps, taps, seed=1)
    if h * up + before + after < taps or w * up + before + after < taps:
        return
    y = ops.upfirdn2d(x, kernel, up, down, (before, after))
    for n in range(2):
        for c in range(3):
            wide = np.zeros((h * up, w * up))
            wide[::up, ::up] = x[n, c]
            wide = np.pad(wide, ((before, after), (before, after)))
            expected = signal.convolve2d(wide, kernel.numpy(), mode="valid")[::down, ::down]
            np.testing.assert_allclose(y[n, c], expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 6), st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]), st.integers(0, 4),
    st.integers(0, 4), st.integers(1, 5),
)  # fmt: skip
def test_fir_and_its_two_derivatives_equal_the_plain_form(h, w, factors, before, after, taps):
    (up, down), kernel = factors, rand(taps, taps, seed=1)
    high, wide = ((n * up + before + after - taps) // down + 1 for n in (h, w))
    if min(high, wide) < 1:
        return
    x, seed, other = (
        rand(2, 3, h, w).requires_grad_(),
        rand(2, 3, high, wide, seed=2).requires_grad_(),
        rand(2, 3, h, w),
    )
    plain = ops.upfirdn2d(x, kernel, up, down, (before, after))
    fast = ops.fir(x, kernel, before, (high, wide), up, down)
    torch.testing.assert_close(fast, plain)
    first = [torch.autograd.grad(y, x, seed, create_graph=True)[0] for y in (fast, plain)]
    torch.testing.assert_close(*first)
    torch.testing.assert_close(*(torch.autograd.grad(grad, seed, other)[0] for grad in first))


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 4, 7, 2), (1, 1)])
def test_fast_resampling_equals_the_plain_form(taps):
    x, kernel = rand(2, 3, 9, 9), ops.fir_kernel(taps, 4.0).double()
    k = len(taps)
    torch.testing.assert_close(ops.blur(x, kernel, (2, 1)), ops.upfirdn2d(x, kernel, pad=(2, 1)))
    torch.testing.assert_close(ops.blur(x, kernel, (2, 2)), ops.upfirdn2d(x, kernel, pad=(2, 2)))
    plain = ops.upfirdn2d(x, kernel, up=2, pad=((k - 2 + 1) // 2 + 1, (k - 2) // 2))
    assert plain.shape[-1] == 18
    torch.testing.assert_close(ops.upsample2d(x, kernel), plain)


def naive_modulated(x, weight, style, demodulate, up_kernel):
    """One kernel and one convolution per sample, the kernel written out."""
    out = []
    for n in range(x.shape[0]):
        w = weight * style[n][None, :, None, None]
        if demodulate:
            w = w / torch.sqrt((w**2).sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if up_kernel is None:
            out.append(F.conv2d(x[n : n + 1], w, padding=w.shape[-1] // 2))
        else:
            y = F.conv_transpose2d(x[n : n + 1], w.transpose(0, 1), stride=2)
            out.append(ops.upfirdn2d(y, up_kernel, pad=(1, 1)))
    return torch.cat(out)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("form", [ops, fast])
def test_modulated_conv_equals_the_loop(form, batch, demodulate, up):
    x, weight, style = rand(batch, 5, 8, 8), rand(4, 5, 3, 3, seed=1), rand(batch, 5, seed=2) + 1
    kernel = ops.fir_kernel((1, 3, 3, 1), 4.0).double() if up else None
    actual = form.modulated_conv2d(x, weight, style, demodulate, kernel)
    torch.testing.assert_close(actual, naive_modulated(x, weight, style, demodulate, kernel))
    assert actual.shape == (batch, 4, 16, 16) if up else (batch, 4, 8, 8)


@pytest.mark.parametrize("form", [ops, fast])
def test_one_style_serves_a_batch(form):
    x, weight, style = rand(3, 5, 8, 8), rand(4, 5, 3, 3, seed=1), rand(1, 5, seed=2)
    actual = form.modulated_conv2d(x, weight, style)
    torch.testing.assert_close(actual, form.modulated_conv2d(x, weight, style.expand(3, -1)))


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 4, 7, 2)])
def test_a_transposed_convolution_to_an_even_width_is_the_same(taps, monkeypatch):
    """The branch of processors with AVX2 and no more."""
    x, weight, kernel = rand(2, 3, 5, 6), rand(4, 3, 3, 3, seed=1), ops.fir_kernel(taps, 4.0).double()
    monkeypatch.setattr(fast, "EVEN_WIDTH", True)
    with torch.no_grad():
        torch.testing.assert_close(fast.conv_up(x, weight, kernel), ops.conv_up(x, weight, kernel))


def test_fuse_is_equation_4():
    f, g, enc, gen = rand(2, 3, 2, 2), rand(2, 3, 2, 2, seed=1), rand(2, 3, 1, 1, seed=2), rand(2, 3, 1, 1, seed=3)
    expected = np.einsum("nchw,nc->nchw", f, enc[..., 0, 0]) + np.einsum("nchw,nc->nchw", g, gen[..., 0, 0])
    np.testing.assert_allclose(ops.fuse(f, g, enc, gen), expected, atol=1e-12)


def test_gradients_in_float64():
    kernel = ops.fir_kernel((1, 3, 3, 1), 4.0).double()
    x, weight = rand(2, 2, 4, 4).requires_grad_(), rand(2, 2, 3, 3, seed=1).requires_grad_()
    style, gain = rand(2, 2, seed=2).requires_grad_(), rand(2, 2, 1, 1, seed=4).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda x, w, s: fast.modulated_conv2d(x, w, s), (x, weight, style))
    assert check(lambda x, w, s: fast.modulated_conv2d(x, w, s, up_kernel=kernel), (x, weight, style))
    assert check(lambda x, w: ops.conv_down(x, w, None, kernel / 4), (x, weight))
    assert check(lambda x: ops.upsample2d(x, kernel), (x,))
    assert check(lambda x: ops.blur(x, kernel, (2, 1)), (x,))
    assert check(lambda x, w, s, g: fast.modulated_conv2d(x, w, s, gain=g), (x, weight, style, gain))
    twice = torch.autograd.gradgradcheck  # R1 needs it
    asymmetric = ops.fir_kernel((1, 4, 7, 2)).double()
    for taps in (kernel / 4, asymmetric):
        assert twice(lambda x, w, taps=taps: ops.conv_down(x, w, None, taps), (x, weight))
        assert twice(lambda x, w, taps=taps: ops.conv_up(x, w, taps), (x, weight))
        assert twice(lambda x, taps=taps: ops.upsample2d(x, taps), (x,))
        assert twice(lambda x, taps=taps: ops.blur(x, taps, (2, 1)), (x,))
    assert check(lambda x: ops.leaky_relu(x * 1), (x,))
    assert twice(lambda x: ops.leaky_relu(x * 1), (x,))


@pytest.mark.parametrize("channels", [3, 20000])  # one block of rows, and several
def test_finish_in_place_equals_the_formula(channels):
    y, noise = rand(2, channels, 9, 9), rand(2, 1, 9, 9, seed=2)
    skip, strength, sigma = rand(1, channels, 9, 9, seed=3), rand(1, 1, 1, 1, seed=4), rand(2, channels, 1, 1, seed=5)
    z = (y + noise * strength).numpy()
    expected = np.where(z > 0, z, 0.2 * z) + (skip * sigma).numpy()
    before, after = [(noise, strength)], [(skip, sigma)]
    np.testing.assert_allclose(fast.finish(y.clone(), before, after), expected, atol=1e-12)


def test_finish_rounds_bfloat16_once():
    """A processor computes it in float32: the result is the formula's, rounded to bfloat16 at the end."""
    y, skip = rand(1, 3, 9, 9).bfloat16(), rand(1, 3, 9, 9, seed=1).bfloat16()
    noise, strength, sigma = rand(1, 1, 9, 9, seed=2), rand(1, 1, 1, 1, seed=3), rand(1, 3, 1, 1, seed=4)
    z = y.double() + noise * strength + skip.double() * sigma
    expected = torch.where(z > 0, z, 0.2 * z)
    actual = fast.finish(y.clone(), [(noise, strength), (skip, sigma)], [])
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.double(), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_gain_and_bias_of_a_modulated_convolution(batch, up, constant, grad):
    """Folded into the convolution or not, they are the same product and sum."""
    x, weight, style = rand(batch, 5, 8, 8), rand(4, 5, 3, 3, seed=1), rand(batch, 5, seed=2) + 1
    kernel, size = (ops.fir_kernel((1, 3, 3, 1), 4.0).double(), 16) if up else (None, 8)
    shape = (1, 4, 1, 1) if constant else (batch, 4, size, size)
    gain, bias = rand(*shape, seed=3), rand(*shape, seed=4)
    with torch.set_grad_enabled(grad):
        actual = fast.modulated_conv2d(x, weight, style, True, kernel, gain, bias)
    torch.testing.assert_close(actual, naive_modulated(x, weight, style, True, kernel) * gain + bias)
