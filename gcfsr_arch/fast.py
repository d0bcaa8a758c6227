"""The same arithmetic as the plain forms of `ops`, in less time on a CPU. Equal to `reference` to 1e-5."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gcfsr_arch import ops

# oneDNN's transposed convolution to an odd width takes twice its time on processors with AVX2 and no more
EVEN_WIDTH = torch.backends.cpu.get_cpu_capability() == "AVX2"

CACHED = 1 << 20  # elements of a block of rows that stay in the processor's cache from one operation to the next

Scaled = tuple[Tensor, Tensor]  # a tensor and its factor, broadcastable


def in_place() -> bool:
    """Whether intermediate results may be overwritten: nothing is differentiated or traced."""
    return not torch.is_grad_enabled() and not ops.traced()


def conv_up(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """`ops.conv_up`; with `EVEN_WIDTH` one column of zeros is computed more, and cropped."""
    if not EVEN_WIDTH or not in_place():
        return ops.conv_up(x, weight, kernel)
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2, output_padding=(0, 1))
    return ops.blur(y, kernel, ops.pad_up(weight, kernel))[..., :-1]


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    demodulate: bool = True,
    up_kernel: Tensor | None = None,
    gain: Tensor | None = None,
) -> Tensor:
    """`ops.modulated_conv2d` times `gain`, without a kernel for each sample.

    One style for the whole batch is folded into the weights; several styles modulate the activations instead, which is
    the same product.

    Args:
        x, weight, style, demodulate, up_kernel: as in `ops.modulated_conv2d`.
        gain: (N or 1, O or 1, 1, 1), or (N or 1, O, H, W) of the output.

    Returns:
        (N, O, H, W), or (N, O, 2H, 2W) with `up_kernel`.
    """
    scale = None  # (N or 1, O, 1, 1)
    if demodulate:
        energy = style.square() @ weight.square().sum((2, 3)).t()  # (N or 1, O)
        scale = torch.rsqrt(energy + 1e-8)[:, :, None, None]
    map_gain = gain if gain is not None and gain.shape[-1] > 1 else None
    if gain is not None and map_gain is None:
        scale = gain if scale is None else scale * gain
    if style.shape[0] == 1 and (scale is None or scale.shape[0] == 1):
        weight = weight * style.view(1, -1, 1, 1)
        y = _conv(x, weight if scale is None else weight * scale.view(-1, 1, 1, 1), up_kernel)
    else:
        y = _conv(x * style[:, :, None, None].to(x.dtype), weight, up_kernel)
        y = y if scale is None else y * scale.to(y.dtype)
    return y if map_gain is None else y * map_gain


def _conv(x: Tensor, weight: Tensor, up_kernel: Tensor | None) -> Tensor:
    if up_kernel is None:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return conv_up(x, weight, up_kernel)


def finish(y: Tensor, bias: Tensor, before: Sequence[Scaled], after: Sequence[Scaled]) -> Tensor:
    """Leaky ReLU of y + bias + sum(before), then + sum(after): what follows a modulated convolution, block by block.

    Args:
        y: (N, C, H, W); may be overwritten.
        bias: broadcastable.
        before, after: products to add, (N or 1, C or 1, H, W) times a broadcastable factor.

    Returns:
        (N, C, H, W).
    """
    bias = bias.to(y.dtype)  # under autocast a factor in float32 would double the size of every activation
    before, after = ([(a.to(y.dtype), b.to(y.dtype)) for a, b in pairs] for pairs in (before, after))
    out = y if y.is_contiguous() or y.is_contiguous(memory_format=torch.channels_last) else torch.empty_like(y)
    rows = max(1, CACHED // max(1, y[:, :, 0].numel())) if y.device.type == "cpu" else y.shape[2]  # GPUs: one launch
    for top in range(0, y.shape[2], rows):

        def part(x: Tensor, top: int = top) -> Tensor:
            return x[:, :, top : top + rows] if x.shape[2] > 1 else x

        total = torch.add(part(y), part(bias), out=part(out))
        for a, b in before:
            total.addcmul_(part(a), part(b))
        F.leaky_relu(total, 0.2, inplace=True)
        for a, b in after:
            total.addcmul_(part(a), part(b))
    return out
