"""The arithmetic of the networks as pure functions of tensors. Images and features are (N, C, H, W)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SQRT2 = math.sqrt(2.0)


def fir_kernel(taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """Separable low-pass filter as a (k, k) kernel that sums to `gain`."""
    scale = gain / sum(taps) ** 2
    return torch.tensor([[row * column * scale for column in taps] for row in taps], dtype=torch.float32)


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Inserts zeros (`up`), pads, convolves with `kernel` and keeps every `down`-th sample (StyleGAN2, App. B).

    The plain form: the reference for `blur` and `upsample2d`.

    Args:
        x: (N, C, H, W).
        kernel: (kh, kw), a true convolution kernel (flipped before correlation).
        up, down: integer factors of both axes.
        pad: zeros (before, after) on both axes, after the zero insertion.

    Returns:
        (N, C, (H * up + pad[0] + pad[1] - kh) // down + 1, ...).
    """
    n, c, h, w = x.shape
    x = x.reshape(n * c, 1, h, 1, w, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n * c, 1, h * up, w * up)
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    x = F.conv2d(x, kernel.flip(0, 1)[None, None].to(x), stride=down)
    return x.reshape(n, c, *x.shape[2:])


def fir(x: Tensor, kernel: Tensor, before: int, size: tuple[int, int], up: int = 1, down: int = 1) -> Tensor:
    """`upfirdn2d` to a given size as one depthwise convolution, or one transposed one where `up` > 1.

    Its derivative is the same filter with the flipped kernel, `up` and `down` exchanged: autograd's own second
    derivative of a depthwise convolution runs channel by channel, which made R1 20 times as many operations.

    Args:
        x: (N, C, H, W).
        kernel: (k, k), a true convolution kernel; it gets no gradient.
        before: zeros before the first sample of both axes, after the zero insertion; zeros behind the last fill `size`.
        size: height and width of the result.
        up, down: as in `upfirdn2d`; one of them is 1.

    Returns:
        (N, C, *size).
    """
    return (_FIR.apply if _differentiated(x) else _depthwise)(x, kernel, before, size, up, down)  # pyright: ignore


class _FIR(torch.autograd.Function):
    """`fir` where it is differentiated."""

    @staticmethod
    def forward(x: Tensor, kernel: Tensor, before: int, size: tuple[int, int], up: int, down: int) -> Tensor:
        return _depthwise(x, kernel, before, size, up, down)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.kernel, ctx.before, _, ctx.up, ctx.down = inputs
        ctx.size = x.shape[2:]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, None, None, None, None, None]:
        (grad,) = grad_outputs
        if grad is not None:
            before = ctx.kernel.shape[0] - 1 - ctx.before
            grad = fir(grad, ctx.kernel.flip(0, 1), before, ctx.size, ctx.down, ctx.up)
        return grad, None, None, None, None, None


def _depthwise(
    x: Tensor, kernel: Tensor, before: int, size: tuple[int, int], up: int, down: int, bias: Tensor | None = None
) -> Tensor:
    (c, h, w), k = x.shape[1:], kernel.shape[0]
    if up == 1:
        weight = kernel.flip(0, 1).to(x).expand(c, 1, k, k)
        below, right = ((out - 1) * down + k - n - before for out, n in zip(size, (h, w), strict=True))
        if before == below == right >= 0:
            return F.conv2d(x, weight, bias, stride=down, padding=before, groups=c)
        return F.conv2d(F.pad(x, (before, right, before, below)), weight, bias, stride=down, groups=c)
    y = F.conv_transpose2d(x, kernel.to(x).expand(c, 1, k, k), stride=up, groups=c)  # as if padded by k - 1
    first = k - 1 - before
    return F.pad(y, (-first, first + size[1] - y.shape[3], -first, first + size[0] - y.shape[2]))


def blur(x: Tensor, kernel: Tensor, pad: tuple[int, int], bias: Tensor | None = None) -> Tensor:
    """`fir` without resampling, `pad` zeros before and after: (N, C, H, W) -> (N, C, H + sum(pad) - k + 1, ...).

    With a bias, (C,), which is added, no gradient is recorded.
    """
    more = sum(pad) - kernel.shape[0] + 1
    size = x.shape[2] + more, x.shape[3] + more
    return fir(x, kernel, pad[0], size) if bias is None else _depthwise(x, kernel, pad[0], size, 1, 1, bias)


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Doubles the size; `kernel` (k, k) sums to 4."""
    return fir(x, kernel, (kernel.shape[0] - 1) // 2 + 1, (2 * x.shape[2], 2 * x.shape[3]), up=2)


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, in place. Its gain sqrt(2) is folded into what precedes it: f(ax) = a f(x)."""
    return _LeakyReLU.apply(x) if _differentiated(x) else F.leaky_relu(x, 0.2, inplace=True)  # pyright: ignore


class _LeakyReLU(torch.autograd.Function):
    """Its second derivative is zero and ends there; autograd's own sends zeros back through the whole network."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2, inplace=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_dirty(*inputs)
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Tensor | None:
        (grad,), (y,) = grad_outputs, ctx.saved_tensors
        return None if grad is None else torch.ops.aten.leaky_relu_backward(grad, y.detach(), 0.2, True)


def _differentiated(x: Tensor) -> bool:
    """Whether autograd records what is done with x, and the call is not traced."""
    return x.requires_grad and torch.is_grad_enabled() and not traced()


def traced() -> bool:
    """Whether a compiler, an exporter or a tracer reads the operators: it gets the plain ones."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def conv_up(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Convolution that doubles the size: transposed convolution, then a blur. (N, I, H, W) -> (N, O, 2H, 2W)."""
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (N, O, 2H + k - 2, ...)
    return blur(y, kernel, pad_up(weight, kernel))


def pad_up(weight: Tensor, kernel: Tensor) -> tuple[int, int]:
    """Zeros before and after for the blur behind a transposed convolution with stride 2, so that it ends at 2H."""
    p = kernel.shape[0] - weight.shape[-1] - 1
    return (p + 1) // 2 + 1, p // 2 + 1


def conv_down(x: Tensor, weight: Tensor, bias: Tensor | None, kernel: Tensor) -> Tensor:
    """Convolution that halves the size: a blur, then stride 2. (N, I, H, W) -> (N, O, H/2, W/2)."""
    k, taps = weight.shape[-1], kernel.shape[0]
    p = taps - 2 + (k - 1)
    return F.conv2d(blur(x, kernel, ((p + 1) // 2, p // 2)), weight, bias, stride=2)


def modulated_conv2d(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up_kernel: Tensor | None = None
) -> Tensor:
    """Style-modulated convolution (StyleGAN2, Eq. 1-3; Conv_sm of Eq. 3 in the paper).

    Every sample has the kernel w[o, i] = weight[o, i] * style[i], scaled to unit norm per o.

    Args:
        x: (N, I, H, W).
        weight: (O, I, k, k); it or the style has the equalised-rate factor.
        style: (N or 1, I).
        demodulate: whether the kernel is scaled to unit norm.
        up_kernel: low-pass kernel that sums to 4; doubles the size.

    Returns:
        (N, O, H, W), or (N, O, 2H, 2W) with `up_kernel`.
    """
    (n, i, h, w), (o, _, k, _) = x.shape, weight.shape
    kernels = weight[None] * style.expand(n, -1).view(n, 1, i, 1, 1)  # (N, O, I, k, k)
    if demodulate:
        kernels = kernels * torch.rsqrt(kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, n * i, h, w)
    if up_kernel is None:
        return F.conv2d(x, kernels.view(n * o, i, k, k), padding=k // 2, groups=n).view(n, o, h, w)
    y = F.conv_transpose2d(x, kernels.transpose(1, 2).reshape(n * i, o, k, k), stride=2, groups=n)
    return upfirdn2d(y.view(n, o, *y.shape[2:]), up_kernel, pad=pad_up(weight, up_kernel))


def fuse(f: Tensor, g: Tensor, sigma_enc: Tensor, sigma_gen: Tensor) -> Tensor:
    """Feature modulation (Eq. 4): f, g (N, C, H, W); sigma (N or 1, C, 1, 1) or (N, C, H, W)."""
    return sigma_enc * f + sigma_gen * g
