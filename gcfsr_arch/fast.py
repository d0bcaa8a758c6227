"""The same arithmetic as the plain forms of `ops`, in less time on a CPU. Equal to `reference` to 1e-5."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gcfsr_arch import ops

# oneDNN's transposed convolution to an odd width takes twice its time on processors with AVX2 and no more
EVEN_WIDTH = torch.backends.cpu.get_cpu_capability() == "AVX2"

CACHED = 1 << 17  # elements of a block of rows that stay in the processor's cache from one operation to the next

Scaled = tuple[Tensor, Tensor]  # a tensor and its factor, broadcastable


def in_place() -> bool:
    """Whether intermediate results may be overwritten: nothing is differentiated or traced."""
    return not torch.is_grad_enabled() and not ops.traced()


def conv_up(x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """`ops.conv_up`, plus a bias (O,); with `EVEN_WIDTH` one column of zeros is computed more, and cropped."""
    if not in_place():
        y = ops.conv_up(x, weight, kernel)
        return y if bias is None else y + bias[:, None, None]
    weight = weight.contiguous()  # oneDNN reorders a transposed kernel in channels-last slowly
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2, output_padding=(0, int(EVEN_WIDTH)))
    y = ops.blur(y, kernel, ops.pad_up(weight, kernel), bias)
    return y[..., :-1] if EVEN_WIDTH else y


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    demodulate: bool = True,
    up_kernel: Tensor | None = None,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`ops.modulated_conv2d` times `gain` plus `bias`, without a kernel for each sample.

    One style for the whole batch is folded into the weights; several styles modulate the activations instead, which is
    the same product.

    Args:
        x, weight, style, demodulate, up_kernel: as in `ops.modulated_conv2d`.
        gain: (N or 1, O or 1, 1, 1), or (N or 1, O, H, W) of the output.
        bias: shaped as the gain.

    Returns:
        (N, O, H, W), or (N, O, 2H, 2W) with `up_kernel`.
    """
    scale = None  # (N or 1, O, 1, 1)
    if demodulate:
        energy = style.square() @ weight.square().sum((2, 3)).t()  # (N or 1, O)
        scale = torch.rsqrt(energy + 1e-8)[:, :, None, None]
    constant = gain is None or gain.shape[-1] == 1  # in space
    if gain is not None and constant:
        scale = gain if scale is None else scale * gain
    if style.shape[0] == 1 and (scale is None or scale.shape[0] == 1):
        factor = style if scale is None else scale.view(-1, 1) * style  # (O or 1, I)
        weight = weight * factor[:, :, None, None]
        if constant:
            return _conv(x, weight, up_kernel, None if bias is None else bias.flatten())
        y = _conv(x, weight, up_kernel)
    else:
        y = _conv(x * style[:, :, None, None].to(x.dtype), weight, up_kernel)
        y = y if scale is None else y * scale.to(y.dtype)
    y = y if gain is None or constant else y * gain
    return y if bias is None else y + bias.to(y.dtype)


def _conv(x: Tensor, weight: Tensor, up_kernel: Tensor | None, bias: Tensor | None = None) -> Tensor:
    if up_kernel is None:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return conv_up(x, weight, up_kernel, bias)


def finish(y: Tensor, before: Sequence[Scaled], after: Sequence[Scaled]) -> Tensor:
    """Leaky ReLU of y + sum(before), then + sum(after): what follows a modulated convolution, block by block.

    Args:
        y: (N, C, H, W); may be overwritten.
        before, after: products to add, (N or 1, C or 1, H, W) times a broadcastable factor.

    Returns:
        (N, C, H, W).
    """
    out = y if y.is_contiguous() or y.is_contiguous(memory_format=torch.channels_last) else torch.empty_like(y)
    cpu = y.device.type == "cpu"
    work = torch.promote_types(y.dtype, torch.float32) if cpu else y.dtype  # bfloat16 is converted once per block
    before, after = ([(a, b.to(work)) for a, b in pairs] for pairs in (before, after))
    rows = max(1, CACHED // max(1, y[:, :, 0].numel())) if cpu else y.shape[2]  # GPUs: one launch
    for top in range(0, y.shape[2], rows):

        def part(x: Tensor, top: int = top) -> Tensor:
            return x[:, :, top : top + rows] if x.shape[2] > 1 else x

        total = part(y).to(work)
        for a, b in before:
            total.addcmul_(part(a).to(work), part(b))
        F.leaky_relu(total, 0.2, inplace=True)
        for a, b in after:
            total.addcmul_(part(a).to(work), part(b))
        if out is not y or y.dtype != work:
            part(out).copy_(total)
    return out
