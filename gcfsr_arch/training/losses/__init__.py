"""The losses of Eq. 6-7 and their companions: pure functions, then thin modules that hold weights and options.

Every loss is a mean over samples, so micro-batches and ranks weighted by their share add up to the whole batch.
Images are RGB, (N, 3, H, W), in [-1, 1]. Losses over frozen networks live in `features.py`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize_tensor

Logits = Tensor | Sequence[Tensor]  # (N, 1), a map (N, 1, h, w), or one (N, patches) per head of several


class GanTerms(NamedTuple):
    """An adversarial loss: what D adds for real scores, what it adds for fake ones, and G's loss of fake ones."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


LOGISTIC = GanTerms(lambda r: F.softplus(-r), F.softplus, lambda f: F.softplus(-f))  # Eq. 6, non-saturating
GAN_TERMS = {  # BasicSR's names; vanilla is the cross-entropy of the scores' sigmoid, the same as Eq. 6
    "wgan_softplus": LOGISTIC,
    "logistic": LOGISTIC,
    "vanilla": LOGISTIC,
    "hinge": GanTerms(lambda r: F.relu(1 - r), lambda f: F.relu(1 + f), lambda f: -f),
    "lsgan": GanTerms(lambda r: (r - 1).square(), torch.square, lambda f: (f - 1).square()),
    "wgan": GanTerms(torch.neg, lambda f: f, torch.neg),
}


def per_head(logits: Logits) -> list[Tensor]:
    """The heads' scores as a list of float tensors: losses are computed in full precision."""
    heads = [logits] if isinstance(logits, Tensor) else list(logits)
    return [head if head.dtype == torch.float64 else head.float() for head in heads]


def generator_gan_loss(fake: Logits, kind: str = "logistic") -> Tensor:
    """The generator's adversarial loss of restored faces' scores: a scalar, the mean over samples and heads."""
    return torch.stack([GAN_TERMS[kind].generator(f).mean() for f in per_head(fake)]).mean()


def discriminator_gan_loss(real: Logits, fake: Logits, kind: str = "logistic") -> Tensor:
    """The discriminator's adversarial loss: its terms of real and of fake scores, each a mean, added up (Eq. 6)."""
    terms, pairs = GAN_TERMS[kind], zip(per_head(real), per_head(fake), strict=True)
    return torch.stack([terms.real(r).mean() + terms.fake(f).mean() for r, f in pairs]).mean()


def relativistic_gan_loss(above: Logits, below: Logits, kind: str = "logistic") -> Tensor:
    """The paired relativistic loss: `above` should score above `below`, sample by sample (R3GAN, Huang et al., 2024).

    D's loss has its real face above its restored one, G's the other way round. With "logistic" it is
    softplus(-(D(above) - D(below))).
    """
    pairs = zip(per_head(above), per_head(below), strict=True)
    return torch.stack([GAN_TERMS[kind].real(a - b).mean() for a, b in pairs]).mean()


def accuracy(real: Logits, fake: Logits, relativistic: bool) -> Tensor:
    """The share of scores that D has right: real above 0 and fake below, or each real one above its fake one."""
    pairs = list(zip(per_head(real), per_head(fake), strict=True))
    if relativistic:
        return torch.stack([(r > f).double().mean() for r, f in pairs]).mean()
    return torch.stack([((r > 0).double().mean() + (f < 0).double().mean()) / 2 for r, f in pairs]).mean()


def r1_penalty(logits: Logits, real: Tensor) -> Tensor:
    """E[|grad_x D(x)|^2] on real faces (Mescheder et al., 2018), without any weight.

    D(x) of a sample is the mean of its scores: over the map of a patch discriminator, over its heads if it has several.

    Args:
        logits: the scores of `real`, computed from it with gradients.
        real: (N, 3, H, W), requires a gradient.
    """
    total = torch.stack([head.flatten(1).mean(1).sum() for head in per_head(logits)]).mean()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def _gaussian(window: int, sigma: float, like: Tensor) -> Tensor:
    x = torch.arange(window, dtype=like.dtype, device=like.device) - (window - 1) / 2
    kernel = torch.exp(-x.square() / (2 * sigma**2))
    return kernel / kernel.sum()


def ssim_maps(x: Tensor, y: Tensor, window: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Structural similarity and, without its luminance, contrast and structure alone, at each position without padding.

    Arguments as in `ssim`, but images in [0, 1]: luminance is a ratio of means, which about 0 says nothing. Returns two
    (N, C, H - window + 1, W - window + 1).
    """
    channels = x.shape[1]
    x, y = (image.contiguous(memory_format=torch.channels_last) for image in (x, y))  # a CPU's fast form
    kernel = _gaussian(window, sigma, x)
    rows, columns = (kernel.view(shape).repeat(channels, 1, 1, 1) for shape in [(1, 1, -1, 1), (1, 1, 1, -1)])

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, rows, groups=channels), columns, groups=channels)

    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * cov + c2) / (var_x + var_y + c2)
    return luminance * contrast, contrast


def ssim(x: Tensor, y: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity with a Gaussian window, without padding (Wang et al., 2004), differentiable.

    Args:
        x, y: (N, C, H, W), float in [-1, 1], both sides at least `window`; compared in [0, 1].
        window, sigma: size and standard deviation of the window, pixels.

    Returns:
        (N,) the mean over channels and positions.
    """
    return ssim_maps((x + 1) / 2, (y + 1) / 2, window, sigma)[0].mean((1, 2, 3))


MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from fine to coarse


def ms_ssim(x: Tensor, y: Tensor, scales: int = 5, window: int = 11) -> Tensor:
    """Multi-scale structural similarity (Wang et al., 2003): a product over scales, each half of the one before.

    Args:
        x, y: (N, C, H, W), float in [-1, 1], both sides at least window * 2^(scales - 1); compared in [0, 1].
        scales: at most 5; the weights of fewer are those of the finest, made to sum to 1.
        window: size of the Gaussian window in pixels, whose standard deviation is 1.5.

    Returns:
        (N,) the mean over channels.
    """
    weights = [weight / sum(MS_SSIM_WEIGHTS[:scales]) for weight in MS_SSIM_WEIGHTS[:scales]]
    product, x, y = x.new_ones(x.shape[:2]), (x + 1) / 2, (y + 1) / 2
    for scale, weight in enumerate(weights, 1):
        whole, contrast = ssim_maps(x, y, window, 1.5)
        kept = whole if scale == scales else contrast  # luminance at the coarsest scale alone
        product = product * kept.mean((2, 3)).clamp(min=1e-6) ** weight  # a power of 0 has no gradient
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product.mean(1)


def focal_frequency(output: Tensor, gt: Tensor, alpha: float = 1.0) -> Tensor:
    """Focal frequency loss (Jiang et al., 2021): squared spectral distance, weighted by itself to the power alpha / 2.

    The weights are a share of the largest of each sample and channel, and take no gradient.

    Args:
        output, gt: (N, C, H, W).

    Returns:
        A scalar, the mean over samples, channels and frequencies.
    """
    spectrum = torch.view_as_real(torch.fft.fft2(output - gt, norm="ortho"))
    distance = spectrum.square().sum(-1)
    weight = distance.detach().sqrt() ** alpha
    weight = weight / weight.amax((2, 3), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    return (weight * distance).mean()


def consistency(output: Tensor, gt: Tensor, factor: Sequence[float]) -> Tensor:
    """L1 between output and ground truth after each is reduced by the sample's true factor: what the input showed.

    Args:
        output, gt: (N, 3, S, S).
        factor: the N true downscale ratios, on the host; the reduced side is round(S / factor).

    Returns:
        A scalar, the mean over samples.
    """
    difference = output - gt  # resizing is linear: once for the difference
    sides = [max(1, round(output.shape[-1] / float(ratio))) for ratio in factor]
    total = output.new_zeros(())
    for side in sorted(set(sides)):
        chosen = torch.cat([difference[i : i + 1] for i, n in enumerate(sides) if n == side])  # without an index tensor
        total = total + resize_tensor(chosen, (side, side)).abs().mean() * (len(chosen) / len(sides))
    return total


def draw_mismatch(s: Tensor, prob: float, octaves: float, s_min: float) -> tuple[Tensor, Tensor]:
    """Moves some dials off their true place, so that training sees every position with every input.

    Args:
        s: (N,) the true dials in [0, 1].
        prob: the share of samples that is moved.
        octaves: how far at most, up or down, in factors of two (drawn uniformly in the logarithm).
        s_min: the smallest dial; the largest is 1.

    Returns:
        s: (N,) the dials to use; matched: (N,) bool, where they are the true ones.
    """
    shift, drawn = torch.rand((2, *s.shape), dtype=torch.float64, device=s.device)
    moved = (s * torch.exp2((shift * 2 - 1) * octaves).to(s)).clamp(s_min, 1.0)
    used = torch.where(drawn < prob, moved, s)
    return used, used == s


def dial_gain(s: Tensor, used: Tensor, power: float) -> Tensor:
    """What a moved dial does to the invented detail: it is scaled by (used / s)^power. (N,), 1 where used == s."""
    return (used / s) ** power


def undo_dial(output: Tensor, base: Tensor, gain: Tensor) -> Tensor:
    """The image that a dial at its true place would give: base + (output - base) / gain.

    With the losses on this, a moved dial learns to give base + gain * detail: nothing deforms, and detail grows with s.

    Args:
        output, base: (N, 3, S, S) the restored image and what it shows without detail: the network's input if clean.
        gain: (N,) of `dial_gain`.
    """
    return base + (output - base) / gain.view(-1, 1, 1, 1)


def draw_settings(true: Tensor, prob: float) -> Tensor:
    """Moves a share `prob` of the settings of degradations (N, k - 1) anywhere in [0, 1]."""
    anywhere, drawn = torch.rand((2, *true.shape), dtype=torch.float64, device=true.device)
    return torch.where(drawn < prob, anywhere.to(true), true)


def share_left(true: Tensor, used: Tensor) -> Tensor:
    """The share of each degradation that a setting below its true one leaves: 1 - used / true, 0 from there on."""
    return torch.where(true > 0, 1 - used / true.clamp(min=1e-6), 0.0).clamp(min=0)


def remainder(left: Tensor, contributions: Tensor) -> Tensor:
    """What is to stay of the degradations: shares (N, k - 1) of contributions (N, k - 1, 3, S, S) -> (N, 3, S, S).

    With the losses on the output without it, a dial between none and its true place learns to remove that part alone.
    """
    return torch.einsum("nk,nkchw->nchw", left, contributions)


class SSIMLoss(nn.Module):
    """loss_weight * (1 - SSIM); arguments as in `ssim`."""

    def __init__(self, loss_weight: float = 1.0, window: int = 11, sigma: float = 1.5) -> None:
        super().__init__()
        self.loss_weight, self.window, self.sigma = loss_weight, window, sigma

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        return self.loss_weight * (1 - ssim(output, gt, self.window, self.sigma)).mean()


class MSSSIMLoss(nn.Module):
    """loss_weight * (1 - MS-SSIM); arguments as in `ms_ssim`."""

    def __init__(self, loss_weight: float = 1.0, scales: int = 5, window: int = 11) -> None:
        super().__init__()
        self.loss_weight, self.scales, self.window = loss_weight, scales, window

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        return self.loss_weight * (1 - ms_ssim(output, gt, self.scales, self.window)).mean()


class FocalFrequencyLoss(nn.Module):
    """loss_weight * `focal_frequency`."""

    def __init__(self, loss_weight: float = 1.0, alpha: float = 1.0) -> None:
        super().__init__()
        self.loss_weight, self.alpha = loss_weight, alpha

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        return self.loss_weight * focal_frequency(output.float(), gt.float(), self.alpha)  # no transform in bf16


REGIONS = {  # (left, top, width, height) as shares of the side of an FFHQ-aligned face
    "left eye": (0.28, 0.39, 0.19, 0.15),
    "right eye": (0.53, 0.39, 0.19, 0.15),
    "mouth": (0.34, 0.64, 0.32, 0.18),
}


def region_crops(x: Tensor) -> list[Tensor]:
    """(N, C, S, S) image or feature map of an aligned face -> its parts in each of `REGIONS`, at least a pixel each."""
    side, crops = x.shape[-1], []
    for box in REGIONS.values():
        left, top, width, height = (round(part * side) for part in box)
        left, top = min(left, side - 1), min(top, side - 1)
        crops.append(x[..., top : top + max(height, 1), left : left + max(width, 1)])
    return crops


class RegionLoss(nn.Module):
    """loss_weight * L1 over the eyes and the mouth, the mean over `REGIONS`, each as heavy as the others."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        pairs = zip(region_crops(output), region_crops(gt), strict=True)
        return self.loss_weight * torch.stack([(x - y).abs().mean() for x, y in pairs]).mean()


class ConsistencyLoss(nn.Module):
    """loss_weight * `consistency`."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, gt: Tensor, factor: Sequence[float]) -> Tensor:
        return self.loss_weight * consistency(output, gt, factor)


class AdversarialLoss(nn.Module):
    """Both sides of the adversarial loss (Eq. 6-7), with the meaning of BasicSR's GANLoss.

    Args:
        gan_type: a key of `GAN_TERMS`; "wgan_softplus" (BasicSR's name) or "logistic" is the paper's.
        loss_weight: lambda_adv of Eq. 7, of the generator's loss.
        scale_d: whether lambda_adv multiplies the discriminator's loss too, as Eq. 7 has it and BasicSR does not.
        relativistic: whether each restored face is judged against its ground truth; see `relativistic_gan_loss`.
        full_factor: factor, above 1, from which a sample counts fully for G, below it by its share of the octaves;
            None: always.

    Raises:
        GCFSRError: an unknown gan_type.
    """

    def __init__(
        self,
        gan_type: str = "wgan_softplus",
        loss_weight: float = 1.0,
        scale_d: bool = False,
        relativistic: bool = False,
        full_factor: float | None = None,
    ) -> None:
        super().__init__()
        if gan_type not in GAN_TERMS:
            known = ", ".join(GAN_TERMS)
            raise GCFSRError(f"train.gan_opt.gan_type: {gan_type!r} is not one of {known}")
        self.kind = gan_type
        self.loss_weight = loss_weight
        self.d_weight = loss_weight if scale_d else 1.0
        self.relativistic = relativistic
        self.full_factor = full_factor

    def eased(self, x: Tensor, factor: Sequence[float]) -> Tensor:
        """Weakens what D's judgement of x tells G about samples below `full_factor`.

        Args:
            x: (N, ...) images or features that D judges.
            factor: their N true downscale ratios, at least 1.

        Returns:
            x itself; its gradient is log2(factor) / log2(full_factor) of D's, at most the whole.
        """
        if self.full_factor is None:
            return x
        octaves = torch.tensor(factor, dtype=torch.float32).to(x.device, non_blocking=True).log2()
        share = (octaves / math.log2(self.full_factor)).clamp(0, 1)
        return x.detach() + (x - x.detach()) * share.to(x.dtype).view(-1, *[1] * (x.dim() - 1))

    def generator(self, fake: Logits, real: Callable[[], Logits]) -> Tensor:
        """lambda_adv times G's loss; `real` gives the scores of the ground truth, for the relativistic loss alone."""
        if self.relativistic:
            return self.loss_weight * relativistic_gan_loss(fake, real(), self.kind)
        return self.loss_weight * generator_gan_loss(fake, self.kind)

    def discriminator(self, real: Logits, fake: Logits) -> Tensor:
        """D's loss, times lambda_adv with `scale_d`."""
        loss = relativistic_gan_loss if self.relativistic else discriminator_gan_loss
        return self.d_weight * loss(real, fake, self.kind)
