"""The arithmetic of the networks as pure functions of tensors. Images and features are (N, C, H, W)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SQRT2 = math.sqrt(2.0)


def fir_kernel(taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """Separable low-pass filter as a (k, k) kernel that sums to `gain`."""
    line = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(line, line)
    return kernel * (gain / kernel.sum())


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


def blur(x: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    """`upfirdn2d` without resampling, as one depthwise convolution."""
    c = x.shape[1]
    weight = kernel.flip(0, 1).to(x).expand(c, 1, -1, -1)
    if pad[0] == pad[1]:
        return F.conv2d(x, weight, padding=pad[0], groups=c)
    return F.conv2d(F.pad(x, (pad[0], pad[1], pad[0], pad[1])), weight, groups=c)


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Doubles the size; `kernel` (k, k) sums to 4. Equal to `upfirdn2d` with up=2, as one transposed convolution."""
    c, k = x.shape[1], kernel.shape[0]
    before, after = (k - 1) // 2 + 1, (k - 2) // 2  # zeros that `upfirdn2d` pads for an output of twice the size
    y = F.conv_transpose2d(x, kernel.to(x).expand(c, 1, -1, -1), stride=2, groups=c)
    first = k - 1 - before
    size = 2 * x.shape[2] + before + after - k + 1, 2 * x.shape[3] + before + after - k + 1
    return y[:, :, first : first + size[0], first : first + size[1]]


def biased_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    """Bias, leaky ReLU with slope 0.2, and the gain sqrt(2) that keeps the variance."""
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * SQRT2


def conv_up(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Convolution that doubles the size: transposed convolution, then a blur. (N, I, H, W) -> (N, O, 2H, 2W)."""
    k, taps = weight.shape[-1], kernel.shape[0]
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (N, O, 2H + k - 2, ...)
    p = taps - 2 - (k - 1)
    return blur(y, kernel, ((p + 1) // 2 + 1, p // 2 + 1))


def conv_down(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Convolution that halves the size: a blur, then stride 2. (N, I, H, W) -> (N, O, H/2, W/2)."""
    k, taps = weight.shape[-1], kernel.shape[0]
    p = taps - 2 + (k - 1)
    return F.conv2d(blur(x, kernel, ((p + 1) // 2, p // 2)), weight, stride=2)


def modulated_conv2d(
    x: Tensor, weight: Tensor, style: Tensor | None = None, demodulate: bool = True, up_kernel: Tensor | None = None
) -> Tensor:
    """Style-modulated convolution (StyleGAN2, Eq. 1-3; Conv_sm of Eq. 3 in the paper).

    Every sample has the kernel w[o, i] = weight[o, i] * style[i], scaled to unit norm per o. One style for the whole
    batch is folded into the weights; several styles modulate the activations instead, which is the same product.

    Args:
        x: (N, I, H, W).
        weight: (O, I, k, k), the equalised-rate factor included.
        style: (N or 1, I); None leaves the kernel unmodulated.
        demodulate: whether the kernel is scaled to unit norm.
        up_kernel: low-pass kernel that sums to 4; doubles the size.

    Returns:
        (N, O, H, W), or (N, O, 2H, 2W) with `up_kernel`.
    """
    style = x.new_ones(1, x.shape[1]) if style is None else style
    demod = None
    if demodulate:
        energy = style.square() @ weight.square().sum((2, 3)).t()  # (N, O)
        demod = torch.rsqrt(energy + 1e-8)
    if style.shape[0] == 1:
        weight = weight * style.view(1, -1, 1, 1)
        weight = weight if demod is None else weight * demod.view(-1, 1, 1, 1)
        return _conv(x, weight, up_kernel)
    y = _conv(x * style[:, :, None, None], weight, up_kernel)
    return y if demod is None else y * demod[:, :, None, None]


def _conv(x: Tensor, weight: Tensor, up_kernel: Tensor | None) -> Tensor:
    if up_kernel is None:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return conv_up(x, weight, up_kernel)
