"""Which losses an option file asks for, and how they are applied to a restored face (Eq. 7)."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import basicsr.archs.vgg_arch as vgg_arch
import torch
from basicsr.losses import build_loss
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_arch.estimator import Estimate, estimate_loss
from gcfsr_arch.training.engine import Engine
from gcfsr_arch.training.hooks.table import replaced
from gcfsr_arch.training.losses import AdversarialLoss, ConsistencyLoss, Logits, RegionLoss, SSIMLoss
from gcfsr_arch.training.losses.features import SQUEEZENET_TAPS, FeatureDiscriminator, FeatureLoss, IdentityLoss
from gcfsr_arch.training.options.networks import PerceptualLoss
from gcfsr_arch.training.options.schema import Losses

if TYPE_CHECKING:
    from gcfsr_arch.training.step import Batch


def build_perceptual(section: PerceptualLoss | None) -> nn.Module | None:
    """BasicSR's PerceptualLoss; `vgg_path` names the VGG weights (torchvision's state dict).

    Without `vgg_path` BasicSR looks for its own file and then asks torchvision to fetch one.

    Raises:
        GCFSRError: the weights could not be loaded.
    """
    if section is None:
        return None
    options = section.model_dump()
    path = options.pop("vgg_path")
    advice = "set train.perceptual_opt.vgg_path to a VGG state dict of torchvision, or remove train.perceptual_opt"
    if path is not None and not Path(path).expanduser().is_file():
        raise GCFSRError(f"train.perceptual_opt.vgg_path: {path} is not a file; {advice}")
    weights = vgg_arch.VGG_PRETRAIN_PATH if path is None else str(Path(path).expanduser())
    try:
        with replaced("basicsr.archs.vgg_arch", VGG_PRETRAIN_PATH=weights):
            return build_loss(options)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # URLError is an OSError
        raise GCFSRError(
            f"train.perceptual_opt: the VGG weights could not be loaded ({first_line(error)}); {advice}"
        ) from error


class Criteria(nn.Module):
    """The generator's losses and the adversarial pair, each of them optional.

    Args:
        losses: the losses of the block `train`.

    Raises:
        GCFSRError: no loss at all, moved dials with nothing to hold their images, or weights that could not be loaded.
    """

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        pixel, ssim, feature = losses.pixel_opt, losses.ssim_opt, losses.feature_opt
        consistency, gan = losses.consistency_opt, losses.gan_opt
        self.pixel = build_loss(pixel.model_dump(exclude_none=True)) if pixel else None
        self.ssim = SSIMLoss(ssim.loss_weight, ssim.window, ssim.sigma) if ssim else None
        self.region = RegionLoss(losses.region_opt.loss_weight) if losses.region_opt else None
        self.perceptual = build_perceptual(losses.perceptual_opt)
        taps = SQUEEZENET_TAPS if feature is None or feature.taps is None else tuple(feature.taps)
        self.feature = FeatureLoss(feature.weights, taps, feature.loss_weight) if feature else None
        identity = losses.identity_opt
        self.identity = IdentityLoss(identity.weights, identity.loss_weight) if identity else None
        self.consistency = ConsistencyLoss(consistency.loss_weight) if consistency else None
        self.estimate = losses.estimate_opt
        self.gan = AdversarialLoss(gan.gan_type, gan.loss_weight, gan.scale_d, gan.relativistic) if gan else None
        whole = [self.perceptual, self.feature, self.identity, self.consistency, self.gan]
        if not any(loss is not None for loss in [self.pixel, self.ssim, self.region, *whole]):
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
        losses = {}
        for name, loss in {"l_g_pix": self.pixel, "l_g_ssim": self.ssim, "l_g_region": self.region}.items():
            if loss is not None:
                losses[name] = on_matched(loss, output, batch)
        if self.consistency is not None:
            losses["l_g_consist"] = self.consistency(output, batch.gt, batch.factor)
        with engine.autocast(output.device):
            if self.perceptual is not None:
                percep, style = self.perceptual(output, batch.gt)
                losses |= {k: v for k, v in {"l_g_percep": percep, "l_g_style": style}.items() if v is not None}
            if self.identity is not None:
                losses["l_g_identity"] = self.identity(output, batch.gt)
            losses |= self._over_features(output, batch.gt, judge)
        return losses

    def _over_features(self, output: Tensor, gt: Tensor, judge: nn.Module | None) -> dict[str, Tensor]:
        """The feature loss and D's judgement; where both look at the same frozen features these are computed once."""

        @torch.no_grad()
        def real() -> Logits:
            return judge(gt)

        if self.feature is None:
            return {} if judge is None else {"l_g_gan": self.gan.generator(judge(output), real)}
        if not isinstance(judge, FeatureDiscriminator) or judge.features.source != self.feature.features.source:
            feature = {"l_g_feature": self.feature(output, gt)}
            return feature if judge is None else feature | {"l_g_gan": self.gan.generator(judge(output), real)}
        found = judge.features(output)
        return {
            "l_g_feature": self.feature.compare(found, gt),
            "l_g_gan": self.gan.generator(judge.score(found, output), real),
        }


def on_matched(loss: nn.Module, output: Tensor, batch: "Batch") -> Tensor:
    """The loss of the samples whose dial is the true one, times their share; the others count as right already."""
    if batch.matched is not None:
        output = torch.where(batch.matched.view(-1, 1, 1, 1), output, batch.gt)
    return loss(output, batch.gt)
