"""Which losses an option file asks for, and how they meet a restored face (Eq. 7)."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import basicsr.archs.vgg_arch as vgg_arch
from basicsr.losses import build_loss
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_arch.training.engine import Engine
from gcfsr_arch.training.features import FeatureDiscriminator, FeatureLoss
from gcfsr_arch.training.hooks.table import replaced
from gcfsr_arch.training.losses import AdversarialLoss, ConsistencyLoss, SSIMLoss

if TYPE_CHECKING:
    from gcfsr_arch.training.step import Batch

OURS = {
    "ssim_opt": SSIMLoss,
    "feature_opt": FeatureLoss,
    "consistency_opt": ConsistencyLoss,
    "gan_opt": AdversarialLoss,
}
TYPES = {"GANLoss": AdversarialLoss, **{cls.__name__: cls for cls in OURS.values()}}


def build_ours(train: Mapping[str, Any], key: str) -> nn.Module | None:
    """Builds one of our losses from `train[key]`, or None where the option is absent.

    Raises:
        GCFSRError: a type that does not belong there, or an argument it does not take.
    """
    options = dict(train.get(key) or {})
    if not options:
        return None
    kind = options.pop("type", OURS[key].__name__)
    if TYPES.get(kind) is not OURS[key]:
        raise GCFSRError(f"train:{key}:type: {kind!r} does not belong here; write {OURS[key].__name__}")
    try:
        return OURS[key](**options)
    except TypeError as error:
        raise GCFSRError(f"train:{key}: {error}; see options/train_gcfsr_x64.yml for its arguments") from error


def build_perceptual(options: Mapping[str, Any] | None) -> nn.Module | None:
    """BasicSR's PerceptualLoss; `vgg_path` names the VGG weights (torchvision's state dict).

    Without `vgg_path` BasicSR looks for its own file and then asks torchvision to fetch one.

    Raises:
        GCFSRError: the weights could not be loaded.
    """
    if not options:
        return None
    options = dict(options)
    path = options.pop("vgg_path", None)
    advice = "set train:perceptual_opt:vgg_path to a VGG state dict of torchvision, or remove train:perceptual_opt"
    if path is not None and not Path(path).expanduser().is_file():
        raise GCFSRError(f"train:perceptual_opt:vgg_path: {path} is not a file; {advice}")
    weights = vgg_arch.VGG_PRETRAIN_PATH if path is None else str(Path(path).expanduser())
    try:
        with replaced("basicsr.archs.vgg_arch", VGG_PRETRAIN_PATH=weights):
            return build_loss(options)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # URLError is an OSError
        raise GCFSRError(
            f"train:perceptual_opt: the VGG weights could not be loaded ({first_line(error)}); {advice}"
        ) from error


class Criteria(nn.Module):
    """The generator's losses and the adversarial pair, each of them optional.

    Args:
        train: the train options.

    Raises:
        GCFSRError: no loss at all, or moved dials with nothing to hold their pictures.
    """

    def __init__(self, train: Mapping[str, Any]) -> None:
        super().__init__()
        self.pixel = build_loss(train["pixel_opt"]) if train.get("pixel_opt") else None
        self.ssim = build_ours(train, "ssim_opt")
        self.perceptual = build_perceptual(train.get("perceptual_opt"))
        self.feature = build_ours(train, "feature_opt")
        self.consistency = build_ours(train, "consistency_opt")
        self.gan = build_ours(train, "gan_opt")
        whole = [self.perceptual, self.feature, self.consistency, self.gan]
        if not any(loss is not None for loss in [self.pixel, self.ssim, *whole]):
            raise GCFSRError("train: no loss is set; set pixel_opt, gan_opt, feature_opt or perceptual_opt")
        if train.get("mismatch") and self.consistency is None:
            raise GCFSRError("train:mismatch: pictures with a moved dial need train:consistency_opt; add it")
        self.requires_grad_(False)

    def generator(self, output: Tensor, batch: "Batch", judge: nn.Module | None, engine: Engine) -> dict[str, Tensor]:
        """Every weighted term of the generator's loss (Eq. 7), each a mean over the samples.

        Pixel losses hold only where the dial is the true one; for a moved dial the picture may differ from the truth
        and is held by what it shows when reduced again, by features and by the discriminator.

        Args:
            output: (N, 3, S, S) restored, full precision.
            batch: what it was restored from.
            judge: the bare discriminator, whose parameters take no gradient now.
            engine: the precision in which frozen networks and the judge run.
        """
        losses = {}
        for name, loss in {"l_g_pix": self.pixel, "l_g_ssim": self.ssim}.items():
            if loss is not None:
                losses[name] = on_matched(loss, output, batch)
        if self.consistency is not None:
            losses["l_g_consist"] = self.consistency(output, batch.gt, batch.factor)
        with engine.autocast(output.device):
            if self.perceptual is not None:
                percep, style = self.perceptual(output, batch.gt)
                losses |= {k: v for k, v in {"l_g_percep": percep, "l_g_style": style}.items() if v is not None}
            losses |= self._over_features(output, batch.gt, judge)
        return losses

    def _over_features(self, output: Tensor, gt: Tensor, judge: nn.Module | None) -> dict[str, Tensor]:
        """The feature loss and D's judgement; where both look at the same frozen features these are computed once."""
        if self.feature is None:
            return {} if judge is None else {"l_g_gan": self.gan.generator(judge(output))}
        if not isinstance(judge, FeatureDiscriminator) or judge.features.source != self.feature.features.source:
            feature = {"l_g_feature": self.feature(output, gt)}
            return feature if judge is None else feature | {"l_g_gan": self.gan.generator(judge(output))}
        found = judge.features(output)
        return {"l_g_feature": self.feature.compare(found, gt), "l_g_gan": self.gan.generator(judge.score(found))}


def on_matched(loss: nn.Module, output: Tensor, batch: "Batch") -> Tensor:
    """The loss of the samples whose dial is the true one, times their share, so that parts of a batch add up."""
    if batch.matched is None:
        return loss(output, batch.gt)
    near, truth = output[batch.matched], batch.gt[batch.matched]
    return loss(near, truth) * (len(near) / len(output)) if len(near) else output.sum() * 0
