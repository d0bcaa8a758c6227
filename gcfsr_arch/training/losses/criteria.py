"""Which losses an option file asks for, and how they are applied to a restored face (Eq. 7)."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import basicsr.archs.vgg_arch as vgg_arch
import torch
from basicsr.losses import build_loss
from basicsr.losses.loss_util import get_refined_artifact_map
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_arch.estimator import Estimate, estimate_loss
from gcfsr_arch.training.engine import Engine
from gcfsr_arch.training.hooks.table import replaced
from gcfsr_arch.training.losses import (
    AdversarialLoss,
    ConsistencyLoss,
    FocalFrequencyLoss,
    Logits,
    MSSSIMLoss,
    RegionLoss,
    SSIMLoss,
)
from gcfsr_arch.training.losses.features import (
    SQUEEZENET_TAPS,
    DISTSLoss,
    FeatureDiscriminator,
    FeatureLoss,
    IdentityLoss,
)
from gcfsr_arch.training.options.networks import DistsLoss, LdlLoss, MsSsimLoss, PerceptualLoss, PixelLoss, SsimLoss
from gcfsr_arch.training.options.networks import FocalFrequencyLoss as FocalFrequency
from gcfsr_arch.training.options.networks import IdentityLoss as IdentitySection
from gcfsr_arch.training.options.networks import RegionLoss as RegionSection
from gcfsr_arch.training.options.schema import Losses
from gcfsr_arch.training.options.types import Section

if TYPE_CHECKING:
    from gcfsr_arch.training.step import Batch


class Perceptual(nn.Module):
    """BasicSR's PerceptualLoss; `vgg_path` names the VGG weights (torchvision's state dict).

    Without `vgg_path` BasicSR looks for its own file and then asks torchvision to fetch one.

    Raises:
        GCFSRError: the weights could not be loaded.
    """

    def __init__(self, section: PerceptualLoss) -> None:
        super().__init__()
        options = section.model_dump()
        path = options.pop("vgg_path")
        advice = "set vgg_path to a VGG state dict of torchvision, or remove the loss"
        if path is not None and not Path(path).expanduser().is_file():
            raise GCFSRError(f"vgg_path: {path} is not a file; {advice}")
        weights = vgg_arch.VGG_PRETRAIN_PATH if path is None else str(Path(path).expanduser())
        try:
            with replaced("basicsr.archs.vgg_arch", VGG_PRETRAIN_PATH=weights):
                self.loss = build_loss(options)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # URLError is an OSError
            raise GCFSRError(f"vgg_path: the weights could not be loaded ({first_line(error)}); {advice}") from error

    def forward(self, output: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """Its parts by name, without those of weight 0."""
        percep, style = self.loss(output, gt)
        return {name: value for name, value in (("percep", percep), ("style", style)) if value is not None}


class LDLLoss(nn.Module):
    """loss_weight * L1 weighted by LDL (Liang et al., 2022): where the output varies and its average is nearer to gt.

    The weights are BasicSR's and take no gradient.
    """

    def __init__(self, loss_weight: float = 1.0, window: int = 7) -> None:
        super().__init__()
        self.loss_weight, self.window = loss_weight, window

    def forward(self, output: Tensor, gt: Tensor, average: Tensor) -> Tensor:
        images = [(image.detach() + 1) / 2 for image in (gt, output, average)]
        return self.loss_weight * (get_refined_artifact_map(*images, self.window) * (output - gt).abs() / 2).mean()


BUILDERS: dict[type[Section], Callable[[Any], nn.Module]] = {  # losses of the output and its ground truth
    PixelLoss: lambda section: build_loss(section.model_dump(exclude_none=True)),
    SsimLoss: lambda section: SSIMLoss(section.loss_weight, section.window, section.sigma),
    MsSsimLoss: lambda section: MSSSIMLoss(section.loss_weight, section.scales, section.window),
    FocalFrequency: lambda section: FocalFrequencyLoss(section.loss_weight, section.alpha),
    LdlLoss: lambda section: LDLLoss(section.loss_weight, section.window),
    RegionSection: lambda section: RegionLoss(section.loss_weight),
    PerceptualLoss: Perceptual,
    DistsLoss: lambda section: DISTSLoss(section.vgg_path, section.weights, section.loss_weight),
    IdentitySection: lambda section: IdentityLoss(section.weights, section.loss_weight),
}
GAN_ARGUMENTS = {"gan_type", "loss_weight", "scale_d", "relativistic", "full_factor"}  # others BasicSR's alone
BLOCKS = {  # name in the log: key of the block `train`
    "pix": "pixel_opt",
    "ssim": "ssim_opt",
    "region": "region_opt",
    "percep": "perceptual_opt",
    "identity": "identity_opt",
}
OVER_NETWORKS = (Perceptual, DISTSLoss, IdentityLoss)  # the others compare pixels


def built_terms(losses: Losses) -> dict[str, nn.Module]:
    """Every loss of the output and its ground truth by its name in the log: those of blocks, then those of the list.

    Raises:
        GCFSRError: weights that could not be loaded; names the key.
    """
    sections = {name: (f"train.{key}", getattr(losses, key)) for name, key in BLOCKS.items()}
    for number, section in enumerate(losses.losses):
        sections[section.type.removesuffix("Loss").lower()] = (f"train.losses.{number}", section)
    terms = {}
    for name, (place, section) in sections.items():
        try:
            terms |= {} if section is None else {name: BUILDERS[type(section)](section)}
        except GCFSRError as error:
            raise GCFSRError(f"{place}.{error}") from error
    return terms


class Criteria(nn.Module):
    """The generator's losses and the adversarial pair, each of them optional.

    Args:
        losses: the losses of the block `train`.

    Raises:
        GCFSRError: no loss at all, moved dials with nothing to hold their images, or weights that could not be loaded.
    """

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        feature, consistency, gan = losses.feature_opt, losses.consistency_opt, losses.gan_opt
        self.terms = nn.ModuleDict(built_terms(losses))
        taps = SQUEEZENET_TAPS if feature is None or feature.taps is None else tuple(feature.taps)
        self.feature = FeatureLoss(feature.weights, taps, feature.loss_weight) if feature else None
        self.consistency = ConsistencyLoss(consistency.loss_weight) if consistency else None
        self.estimate = losses.estimate_opt
        self.gan = AdversarialLoss(**gan.model_dump(include=GAN_ARGUMENTS)) if gan else None
        self.needs_factor = bool(consistency or (gan and gan.full_factor))
        self.needs_average = any(isinstance(loss, LDLLoss) for loss in self.terms.values())
        if not self.terms and not any((self.feature, self.consistency, self.gan)):
            raise GCFSRError("train: no loss is set; set pixel_opt, gan_opt, feature_opt or perceptual_opt")
        if losses.mismatch and self.consistency is None:
            raise GCFSRError("train.mismatch: images with a moved dial need train.consistency_opt; add it")
        self.requires_grad_(False)

    def estimator(self, estimate: Estimate | None, batch: "Batch") -> dict[str, Tensor]:
        """The weighted loss of the estimator, nothing without one."""
        if estimate is None or self.estimate is None:
            return {}
        return {"l_g_estimate": self.estimate.loss_weight * estimate_loss(estimate, batch.true)}

    def generator(self, output: Tensor, batch: "Batch", judge: nn.Module | None, engine: Engine) -> dict[str, Tensor]:
        """Every weighted term of the generator's loss (Eq. 7), each a mean over the samples.

        Pixel losses apply only where the dial is the true one. With a moved dial the image may differ from the ground
        truth; the consistency loss, features and the discriminator still apply.

        Args:
            output: (N, 3, S, S) restored, full precision.
            batch: what it was restored from.
            judge: the bare discriminator, whose parameters take no gradient now.
            engine: the precision in which frozen networks and the judge run.
        """
        losses: dict[str, Tensor] = {}
        for name, loss in self.terms.items():
            if not isinstance(loss, OVER_NETWORKS):
                losses[f"l_g_{name}"] = on_matched(loss, output, batch)
        if self.consistency is not None:
            losses["l_g_consist"] = self.consistency(output, batch.gt, batch.factor)
        with engine.autocast(output.device):
            for name, loss in self.terms.items():
                if isinstance(loss, OVER_NETWORKS):
                    value = loss(output, batch.gt)
                    parts = value if isinstance(value, dict) else {name: value}
                    losses |= {f"l_g_{part}": term for part, term in parts.items()}
            losses |= self._over_features(output, batch, judge)
        return losses

    def _over_features(self, output: Tensor, batch: "Batch", judge: nn.Module | None) -> dict[str, Tensor]:
        """The feature loss and D's judgement; where both look at the same frozen features these are computed once."""
        losses: dict[str, Tensor] = {}
        found = None if self.feature is None else self.feature.features(output)
        if self.feature is not None:
            losses["l_g_feature"] = self.feature.compare(found, batch.gt)
        if judge is not None:

            def eased(x: Tensor) -> Tensor:
                return self.gan.eased(x, batch.factor)

            @torch.no_grad()
            def real() -> Logits:
                return judge(batch.gt)

            shared = found is not None and isinstance(judge, FeatureDiscriminator)
            if shared and judge.features.source == self.feature.features.source:
                scores = judge.score([eased(f) for f in found], eased(output))
            else:
                scores = judge(eased(output))
            losses["l_g_gan"] = self.gan.generator(scores, real)
        return losses


def on_matched(loss: nn.Module, output: Tensor, batch: "Batch") -> Tensor:
    """The loss of the samples whose dial is the true one, times their share; the others count as right already."""
    if batch.matched is not None:
        output = torch.where(batch.matched.view(-1, 1, 1, 1), output, batch.gt)
    return loss(output, batch.gt, batch.average) if isinstance(loss, LDLLoss) else loss(output, batch.gt)
