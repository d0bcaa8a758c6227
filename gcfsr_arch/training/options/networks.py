"""Schema of the networks and the losses."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gcfsr_arch.config import check_taps
from gcfsr_arch.errors import did_you_mean
from gcfsr_arch.training.options.data import one_of
from gcfsr_arch.training.options.types import (
    Count,
    Float,
    NaturalInt,
    OpenSection,
    Positive,
    Section,
    Share,
    Size,
    Weight,
    message,
)

Conditions = Annotated[list[Literal["factor", "blur", "noise", "jpeg"]], Field(min_length=1, max_length=4)]


def _taps(taps: list[float]) -> list[float]:
    check_taps(taps)
    return taps


Taps = Annotated[
    list[Float],
    Field(min_length=1, max_length=16),
    AfterValidator(_taps),
    message("should be 1 to 16 numbers whose sum is not zero, such as [1, 3, 3, 1]"),
]


class Network(Section):
    """Arguments that both networks share."""

    out_size: Size = Field(description="Side of the images in pixels, a power of two.")
    channel_multiplier: Positive = Field(2, description="Width above 32 pixels, m of StyleGAN2's table.")
    narrow: Positive = Field(1, description="Multiplies every width; 1/16 makes a tiny network.")
    resample_kernel: Taps = Field([1, 3, 3, 1], description="Taps of the resampling filter.")


class Generator(Network):
    """GCFSR."""

    type: Literal["GCFSR"]
    num_style_feat: Count = Field(512, description="Length of a latent code.")
    variant: Literal["paper", "released"] = Field(
        "paper", description="Eq. 4's form. With model_type GCFSR_Model a file that does not say gets `released`."
    )
    blind: bool = Field(False, description="No dial: s is fixed to 1.")
    style_modulation: bool = Field(True, description="False: the ablation of Fig. 7.")
    feature_modulation: bool = Field(True, description="False: the encoder's features are added without modulation.")
    min_factor: Positive = Field(4, description="Smallest factor the network is trained for.")
    max_factor: Positive | None = Field(None, description="s = factor / max_factor; 64 from 1024 pixels, else 32.")
    estimator: bool = Field(False, description="A small head estimates the conditions from the encoder's features.")
    conditions: Conditions = Field(["factor"], description="What s holds: factor, then any of blur, noise and jpeg.")


class ReleasedBlind(Network):
    """GCFSR_blind of the released code."""

    type: Literal["GCFSR_blind"]
    num_style_feat: Count = 512


class Discriminator(Network):
    """GCFSRDiscriminator."""

    type: Literal["GCFSRDiscriminator"]
    minibatch_std: bool = Field(False, description="Append the standard deviation over the batch (StyleGAN2).")


class ReleasedDiscriminator(Network):
    """StyleGAN2Discriminator_no_std of the released code."""

    type: Literal["StyleGAN2Discriminator_no_std"]


class FeatureDiscriminator(Section):
    """Small heads on frozen ImageNet features."""

    type: Literal["FeatureDiscriminator"]
    weights: str = Field(description="State dict of SqueezeNet 1.1.")
    taps: list[NaturalInt] | None = Field(None, description="Layers whose activations are judged.")
    channels: Count = Field(64, description="Width of each head.")
    lite0: str | None = Field(
        None, description="State dict of EfficientNet-Lite0, for four heads more (Projected GAN)."
    )
    regions: bool = Field(False, description="Heads of their own for the eyes and the mouth of aligned faces.")


class OtherNetwork(OpenSection):
    """A network that is not ours; its own class reads its keys."""

    type: str


GENERATORS: dict[str, type[Section]] = {"GCFSR": Generator, "GCFSR_blind": ReleasedBlind}
DISCRIMINATORS: dict[str, type[Section]] = {
    "GCFSRDiscriminator": Discriminator,
    "StyleGAN2Discriminator_no_std": ReleasedDiscriminator,
    "FeatureDiscriminator": FeatureDiscriminator,
}


class OtherGenerator(OtherNetwork):
    """A generator that is not ours."""


NetworkG = one_of(GENERATORS, OtherGenerator)
NetworkD = one_of(DISCRIMINATORS, OtherNetwork)


class PixelLoss(Section):
    """L1 and its relatives (Eq. 7, first term)."""

    type: Literal["L1Loss", "MSELoss", "CharbonnierLoss"]
    loss_weight: Weight = 1.0
    reduction: Literal["mean"] = Field("mean", description="Only mean, so that micro-batches and ranks add up.")
    eps: Positive | None = Field(None, description="CharbonnierLoss alone.")

    @model_validator(mode="after")
    def _of_its_type(self) -> "PixelLoss":
        if self.eps is not None and self.type != "CharbonnierLoss":
            raise ValueError(f"eps belongs to CharbonnierLoss, {self.type} has none; remove it or change type")
        return self


VGG_CONVOLUTIONS = {  # of each block
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def vgg_layers(vgg_type: str) -> list[str]:
    """The names that BasicSR gives to the layers of a VGG."""
    plain = vgg_type.removesuffix("_bn")
    kinds = ("conv", "relu") if plain == vgg_type else ("conv", "bn", "relu")
    names = []
    for block, count in enumerate(VGG_CONVOLUTIONS[plain], 1):
        names += [f"{kind}{block}_{number}" for number in range(1, count + 1) for kind in kinds]
        names.append(f"pool{block}")
    return names


class PerceptualLoss(Section):
    """BasicSR's perceptual loss (Eq. 7, second term)."""

    type: Literal["PerceptualLoss"]
    layer_weights: dict[str, Weight] = Field(min_length=1, description="VGG layer: weight; conv4_3 is before its ReLU.")
    vgg_type: Literal["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"] = "vgg19"
    vgg_path: str | None = Field(None, description="Weights of the VGG; without it BasicSR downloads them.")
    use_input_norm: bool = True
    range_norm: bool = Field(False, description="True for images in [-1, 1], as ours are.")
    perceptual_weight: Weight = 1.0
    style_weight: Weight = 0.0
    criterion: Literal["l1"] = Field("l1", description="Only l1: BasicSR's fro is no mean over samples, its l2 fails.")

    @model_validator(mode="after")
    def _of_its_vgg(self) -> "PerceptualLoss":
        layers = vgg_layers(self.vgg_type)
        for name in (name for name in self.layer_weights if name not in layers):
            raise ValueError(f"layer_weights: {self.vgg_type} has no layer {name!r}, {did_you_mean(name, layers)}")
        return self


class SsimLoss(Section):
    """1 - SSIM."""

    type: Literal["SSIMLoss"] = "SSIMLoss"
    loss_weight: Weight = 1.0
    window: Count = Field(11, description="Side of the Gaussian window in pixels.")
    sigma: Positive = Field(1.5, description="Its standard deviation in pixels.")


class MsSsimLoss(Section):
    """1 - MS-SSIM."""

    type: Literal["MSSSIMLoss"]
    loss_weight: Weight = 1.0
    scales: Annotated[Count, Field(le=5)] = Field(5, description="Halvings and one; 5 need 256 pixels.")
    window: Count = Field(11, description="Side of the Gaussian window in pixels.")


class FocalFrequencyLoss(Section):
    """Squared distance of the spectra, weighted by itself (focal frequency loss)."""

    type: Literal["FocalFrequencyLoss"]
    loss_weight: Weight = 1.0
    alpha: Weight = Field(1.0, description="Power of the distance in the weights; 0 weights all frequencies alike.")


class LdlLoss(Section):
    """L1 where the output varies in a way that its moving average does not: artefacts (LDL)."""

    type: Literal["LDLLoss"]
    loss_weight: Weight = 1.0
    window: Literal[3, 5, 7, 9, 11] = Field(7, description="Side in pixels of the square whose variance counts.")


class DistsLoss(Section):
    """DISTS, structure and texture of VGG features."""

    type: Literal["DISTSLoss"]
    loss_weight: Weight = 1.0
    vgg_path: str = Field(description="VGG16's weights, torchvision's state dict.")
    weights: str = Field(description="alpha and beta, as weights.pt of the package dists-pytorch has them.")


class FeatureLoss(Section):
    """Distance of frozen ImageNet features in LPIPS's form."""

    type: Literal["FeatureLoss"] = "FeatureLoss"
    weights: str = Field(description="State dict of SqueezeNet 1.1.")
    taps: list[NaturalInt] | None = Field(None, description="Layers whose activations are compared.")
    loss_weight: Weight = 1.0


class RegionLoss(Section):
    """L1 over the eyes and the mouth of aligned faces."""

    type: Literal["RegionLoss"] = "RegionLoss"
    loss_weight: Weight = 1.0


class IdentityLoss(Section):
    """1 - cosine of dlib's face embedding; judge by another embedding."""

    type: Literal["IdentityLoss"] = "IdentityLoss"
    weights: str = Field(description="dlib-face.safetensors of tools/face_api.py.")
    loss_weight: Weight = 1.0


class OtherLoss(OpenSection):
    """An unknown loss; `cross.py` says so."""

    type: str


LISTED: dict[str, type[Section]] = {
    **dict.fromkeys(("L1Loss", "MSELoss", "CharbonnierLoss"), PixelLoss),
    "SSIMLoss": SsimLoss,
    "MSSSIMLoss": MsSsimLoss,
    "FocalFrequencyLoss": FocalFrequencyLoss,
    "LDLLoss": LdlLoss,
    "RegionLoss": RegionLoss,
    "PerceptualLoss": PerceptualLoss,
    "DISTSLoss": DistsLoss,
    "IdentityLoss": IdentityLoss,
}
ListedLoss = one_of(LISTED, OtherLoss)


class ConsistencyLoss(Section):
    """L1 between output and ground truth, both reduced by the sample's factor."""

    type: Literal["ConsistencyLoss"] = "ConsistencyLoss"
    loss_weight: Weight = 1.0


class EstimateLoss(Section):
    """Likelihood of the true conditions under the estimator's Gaussians."""

    type: Literal["EstimateLoss"] = "EstimateLoss"
    loss_weight: Weight = 0.1
    detach: bool = Field(True, description="The estimator alone learns from it; False: the encoder, too.")


class GanLoss(Section):
    """The adversarial loss (Eq. 6)."""

    type: Literal["GANLoss", "AdversarialLoss"] = "AdversarialLoss"
    gan_type: Literal["wgan_softplus", "logistic", "vanilla", "hinge", "lsgan", "wgan"] = Field(
        "wgan_softplus", description="wgan_softplus, logistic and vanilla are names of Eq. 6."
    )
    loss_weight: Weight = Field(1.0, description="lambda_adv of Eq. 7, of the generator's loss.")
    scale_d: bool = Field(
        False, description="lambda_adv multiplies D's loss too, as Eq. 7 has it; in BasicSR it never does."
    )
    relativistic: bool = Field(False, description="Each restored face is judged against its ground truth (R3GAN).")
    full_factor: Annotated[Float, Field(gt=1)] | None = Field(
        None, description="Factor from which it counts fully for G; below in proportion to the octaves."
    )
    real_label_val: Annotated[Float, Field(ge=1, le=1)] = Field(1, description="Only 1: labels are not smoothed.")
    fake_label_val: Annotated[Float, Field(ge=0, le=0)] = Field(0, description="Only 0: labels are not smoothed.")


class Mismatch(Section):
    """Dials moved off their true place, so that training sees every position with every input."""

    prob: Share = Field(description="Share of the samples that is moved.")
    octaves: Weight = Field(description="How far at most, in factors of two.")
    gain: Weight | None = Field(
        None, description="Detail is to be (moved / true)^gain of the true dial's; every loss then holds moved dials."
    )
    dials: Share = Field(
        0,
        description="Share of the settings of blur, noise and jpeg that is moved; the data set needs contributions.",
    )
