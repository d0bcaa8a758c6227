"""Losses against independent implementations and their properties."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from skimage.metrics import structural_similarity
from torch import nn
from torchvision.models import squeezenet1_1

from gcfsr_arch import GCFSRError
from gcfsr_arch.training import losses
from gcfsr_arch.training.losses.criteria import LDLLoss
from gcfsr_arch.training.losses.features import (
    DISTSLoss,
    FeatureDiscriminator,
    FeatureLoss,
    FrozenFeatures,
    IdentityLoss,
)
from gcfsr_datasets.resize import resize
from gcfsr_measure.faceapi import DLIB_SIZE, DlibFace, dlib_embedding
from gcfsr_measure.faces import DLIB_BOX, face_crop
from gcfsr_measure.lite0 import EfficientNetLite0


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SqueezeNet's state dict."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    return path


def images(seed: int, n: int = 2, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, size, size, generator=rng, dtype=torch.float64) * 2 - 1
    return x, (x + 0.2 * torch.randn(x.shape, generator=rng, dtype=torch.float64)).clamp(-1, 1)


def test_ssim_is_scikit_images() -> None:
    x, y = images(0)
    wanted = []
    for a, b in zip((x + 1) / 2, (y + 1) / 2, strict=True):  # as for the metric: about 0 the means' ratio says nothing
        _, whole = structural_similarity(
            a.numpy(), b.numpy(), channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        wanted.append(whole[:, 5:-5, 5:-5].mean())  # scikit-image pads, ours does not
    np.testing.assert_allclose(losses.ssim(x, y), wanted, atol=1e-9)


def test_ssim_loss_is_zero_for_equal_images_and_has_a_gradient() -> None:
    x, y = images(1)
    assert losses.SSIMLoss(0.5)(x, x).item() == pytest.approx(0, abs=1e-12)
    y.requires_grad_(True)
    assert torch.autograd.gradcheck(losses.SSIMLoss(0.5), (y[:1, :1, :14, :14], x[:1, :1, :14, :14]))


@pytest.mark.parametrize("scales", [1, 2, 5])
def test_ms_ssim_is_piqs(scales: int) -> None:
    piq = pytest.importorskip("piq")
    x, y = images(2, size=192)
    weights = torch.tensor(losses.MS_SSIM_WEIGHTS[:scales], dtype=torch.float64)
    weights = weights / weights.sum()
    shifted = [(image + 1) / 2 for image in (x, y)]
    wanted = piq.multi_scale_ssim(*shifted, reduction="none", scale_weights=weights)
    torch.testing.assert_close(losses.ms_ssim(x, y, scales), wanted, rtol=1e-5, atol=1e-5)  # its kernel is float32
    loss = losses.MSSSIMLoss(0.5, scales)
    assert loss(x, x).item() == pytest.approx(0, abs=1e-12)
    y.requires_grad_(True)
    loss(y, -x.detach()).backward()  # opposite images: a similarity below 0
    assert y.grad is not None
    assert torch.isfinite(y.grad).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_focal_frequency_loss_is_its_authors(alpha: float) -> None:
    package = pytest.importorskip("focal_frequency_loss")
    x, y = (image.float().requires_grad_() for image in images(3))
    mine, theirs = (kind(0.5, alpha)(x, y) for kind in (losses.FocalFrequencyLoss, package.FocalFrequencyLoss))
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(torch.autograd.grad(mine, x), torch.autograd.grad(theirs, x))
    assert losses.FocalFrequencyLoss()(x, x).item() == 0


def test_dists_is_piqs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both with the same random weights, of VGG16 and of the features."""
    piq = pytest.importorskip("piq")
    torch.manual_seed(0)
    vgg = torchvision.models.vgg16(weights=None)
    torch.save(vgg.state_dict(), tmp_path / "vgg16.pth")
    weights = {key: torch.rand(1, 1475, 1, 1) for key in ("alpha", "beta")}
    torch.save(weights, tmp_path / "dists.pt")
    shares = {key: value / (weights["alpha"].sum() + weights["beta"].sum()) for key, value in weights.items()}
    monkeypatch.setattr("piq.perceptual.vgg16", lambda **_: vgg)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: shares)
    theirs = piq.DISTS(reduction="mean")
    mine = DISTSLoss(str(tmp_path / "vgg16.pth"), str(tmp_path / "dists.pt"), loss_weight=0.5)
    x, y = (image.float() for image in images(4, size=64))
    wanted = 0.5 * theirs((x + 1) / 2, (y + 1) / 2)
    torch.testing.assert_close(mine(x, y), wanted, rtol=1e-4, atol=1e-5)
    assert mine(x, x).item() == pytest.approx(0, abs=1e-5)
    x.requires_grad_(True)
    mine(x, y).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    with pytest.raises(GCFSRError, match=r"^weights: .*vgg16\.pth: holds something else than alpha and beta"):
        DISTSLoss(str(tmp_path / "vgg16.pth"), str(tmp_path / "vgg16.pth"))
    with pytest.raises(GCFSRError, match=r"^vgg_path: .*dists\.pt is not VGG16"):
        DISTSLoss(str(tmp_path / "dists.pt"), str(tmp_path / "dists.pt"))


def test_ldl_is_its_authors() -> None:
    """In numpy: |residual| of a pixel, variances of a 7 x 7 square and of the image, where the average is nearer."""
    gt, output = (image.float() for image in images(5, n=1, size=16))
    average = (gt + 0.1 * torch.randn(gt.shape, generator=torch.Generator().manual_seed(6))).clamp(-1, 1)
    residual, other = ((np.abs(x.numpy()[0] - gt.numpy()[0]) / 2).sum(0) for x in (output, average))
    padded = np.pad(residual, 3, mode="reflect")
    local = [[padded[y : y + 7, x : x + 7].var(ddof=1) for x in range(16)] for y in range(16)]
    weight = residual.var(ddof=1) ** 0.2 * np.array(local) * (residual >= other)
    wanted = (weight * np.abs(output.numpy()[0] - gt.numpy()[0]) / 2).mean()
    assert LDLLoss(2.0)(output, gt, average).item() == pytest.approx(2 * wanted, rel=1e-4)
    output.requires_grad_(True)
    LDLLoss()(output, gt, gt).backward()
    LDLLoss()(gt.clone().requires_grad_(), gt, gt).backward()  # no NaN where nothing differs
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


def test_logistic_loss_is_binary_cross_entropy() -> None:
    real, fake = torch.randn(5, 1), torch.randn(5, 1)
    ones, zeros = torch.ones(5, 1), torch.zeros(5, 1)
    bce = F.binary_cross_entropy_with_logits
    adversarial = losses.AdversarialLoss("wgan_softplus", 0.01, scale_d=True)
    torch.testing.assert_close(adversarial.generator(fake, list), 0.01 * bce(fake, ones))
    torch.testing.assert_close(adversarial.discriminator(real, fake), 0.01 * (bce(real, ones) + bce(fake, zeros)))
    unscaled = losses.AdversarialLoss("logistic", 0.01)
    torch.testing.assert_close(unscaled.discriminator(real, fake), bce(real, ones) + bce(fake, zeros))


def test_hinge_loss_averages_heads_equally() -> None:
    real = [torch.tensor([[2.0, 0.5]]), torch.tensor([[-1.0]])]
    fake = [torch.tensor([[-2.0, 0.0]]), torch.tensor([[1.0]])]
    hinge = losses.AdversarialLoss("hinge", 1.0)
    # head 1: real (0 + 0.5) / 2, fake (0 + 1) / 2; head 2: real 2, fake 2
    assert hinge.discriminator(real, fake).item() == pytest.approx((0.25 + 0.5 + 2 + 2) / 2)
    assert hinge.generator(fake, list).item() == pytest.approx(-(-1 + 1) / 2)


@pytest.mark.parametrize("kind", ["wgan_softplus", "vanilla", "lsgan", "wgan", "hinge"])
def test_a_gan_type_means_what_it_means_in_basicsr(kind: str) -> None:
    """Both sides, on patch maps; `loss_weight` is for the generator alone."""
    theirs = pytest.importorskip("basicsr.losses.gan_loss").GANLoss(kind, loss_weight=0.3)
    ours = losses.AdversarialLoss(kind, 0.3)
    real, fake = torch.randn(3, 1, 5, 5), torch.randn(3, 1, 5, 5)
    torch.testing.assert_close(ours.generator(fake, list), theirs(fake, True, is_disc=False))
    both = theirs(real, True, is_disc=True) + theirs(fake, False, is_disc=True)
    torch.testing.assert_close(ours.discriminator(real, fake), both)


def test_the_relativistic_loss_compares_each_face_with_its_own() -> None:
    """R3GAN's: softplus of the difference, so a shift of all scores changes nothing."""
    real, fake = torch.randn(6, 1), torch.randn(6, 1)
    paired = losses.AdversarialLoss("logistic", 0.3, relativistic=True)
    torch.testing.assert_close(paired.discriminator(real, fake), torch.log1p(torch.exp(fake - real)).mean())
    torch.testing.assert_close(paired.generator(fake, lambda: real), 0.3 * torch.log1p(torch.exp(real - fake)).mean())
    torch.testing.assert_close(paired.discriminator(real + 5, fake + 5), paired.discriminator(real, fake))


def test_accuracy_of_a_discriminator() -> None:
    real, fake = torch.tensor([[1.0], [2.0], [-1.0], [3.0]]), torch.tensor([[-1.0], [3.0], [-2.0], [-1.0]])
    assert losses.accuracy(real, fake, relativistic=False).item() == (3 / 4 + 3 / 4) / 2
    assert losses.accuracy(real, fake, relativistic=True).item() == 3 / 4
    assert losses.accuracy([real, real], [fake, -fake], False).item() == pytest.approx((6 / 8 + 4 / 8) / 2)


def test_unknown_gan_type_is_named() -> None:
    with pytest.raises(GCFSRError, match="gan_type: 'wgan_gp' is not one of"):
        losses.AdversarialLoss("wgan_gp")


def test_r1_of_a_patch_discriminator_is_that_of_its_mean_score() -> None:
    """A map (N, 1, h, w), as BasicSR's UNet discriminator gives; its sum would be (h w)^2 times too large."""
    net = nn.Conv2d(3, 1, 3, padding=1).double()
    real = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(net(real).mean((1, 2, 3)).sum(), real)
    wanted = slope.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(losses.r1_penalty(net(real), real), wanted)
    torch.testing.assert_close(losses.r1_penalty([net(real).flatten(1)], real), wanted)


def test_r1_of_a_linear_discriminator_is_its_squared_weight() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 1)).double()
    real = torch.randn(6, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    wanted = net[1].weight.square().sum()
    torch.testing.assert_close(losses.r1_penalty(net(real), real), wanted)


def test_r1_by_finite_differences() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Softplus(), nn.Linear(5, 1)).double()
    real = torch.randn(3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    penalty, step = 0.0, 1e-6
    for sample in real.detach():
        for i in range(12):
            move = torch.zeros(12, dtype=torch.float64)
            move[i] = step
            move = move.view(1, 3, 2, 2)
            penalty += ((net(sample + move) - net(sample - move)) / (2 * step)).item() ** 2
    assert losses.r1_penalty(net(real), real).item() == pytest.approx(penalty / 3, rel=1e-6)


def test_consistency_reduces_each_sample_by_its_factor() -> None:
    x, y = images(2, n=3)
    factor = torch.tensor([4.0, 8.0, 4.0])
    wanted = 0.0
    for a, b, f in zip(x, y, factor.tolist(), strict=True):
        side = round(32 / f)
        small = [resize(np.ascontiguousarray(p.numpy().transpose(1, 2, 0)), (side, side)) for p in (a, b)]
        wanted += np.abs(small[0] - small[1]).mean() / 3
    assert losses.consistency(x, y, factor).item() == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    s=st.lists(st.floats(0.125, 1), min_size=1, max_size=8),
    prob=st.floats(0, 1),
    octaves=st.floats(0.01, 2),
    seed=st.integers(0, 2**31),
)
def test_a_moved_dial_stays_near_and_in_range(s: list[float], prob: float, octaves: float, seed: int) -> None:
    torch.manual_seed(seed)
    true = torch.tensor(s)
    used, matched = losses.draw_mismatch(true, prob, octaves, 0.125)
    assert ((used >= 0.125) & (used <= 1)).all()
    assert (torch.log2(used / true).abs() <= octaves + 1e-5).all()
    assert torch.equal(matched, used == true)
    assert matched.all() or prob > 0


def test_moving_all_or_no_dials() -> None:
    true = torch.full((1000,), 0.5)
    assert losses.draw_mismatch(true, 0.0, 1.0, 0.1)[1].all()
    used, matched = losses.draw_mismatch(true, 0.3, 1.0, 0.1)
    assert 0.25 < (~matched).float().mean() < 0.35
    assert used.min() >= 0.25


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(0.3, 3), seed=st.integers(0, 1000))
def test_undoing_the_dial_inverts_scaled_detail(gain: float, seed: int) -> None:
    lq, detail = images(seed, n=1, size=4)
    gains = torch.tensor([gain], dtype=torch.float64)
    torch.testing.assert_close(losses.undo_dial(lq + gain * detail, lq, gains), lq + detail)


def test_frozen_features_are_torchvisions(squeezenet: Path) -> None:
    features, reference = FrozenFeatures(squeezenet, (2, 12)), squeezenet1_1(weights=None).eval()
    reference.load_state_dict(torch.load(squeezenet, weights_only=True))
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = ((x + 1) / 2 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    found = features(x)
    torch.testing.assert_close(found[0], reference.features[:3](normal))
    torch.testing.assert_close(found[1], reference.features(normal))
    features.train()
    assert not features.training
    assert not any(p.requires_grad for p in features.parameters())


def test_feature_loss_sees_a_difference_and_gives_a_gradient(squeezenet: Path) -> None:
    loss = FeatureLoss(str(squeezenet), loss_weight=2.0)
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    assert loss(x, x.detach()).item() == pytest.approx(0, abs=1e-6)
    loss(x, torch.rand(1, 3, 64, 64)).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_feature_discriminator_trains_its_heads_alone(squeezenet: Path) -> None:
    net = FeatureDiscriminator(str(squeezenet), channels=8)
    scores = net(torch.rand(2, 3, 64, 64))
    assert len(scores) == 5
    assert all(x.shape[0] == 2 and x.ndim == 2 for x in scores)
    losses.AdversarialLoss("hinge").discriminator(scores, scores).backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in net.named_parameters() if name.startswith("heads")}


def test_the_region_loss_is_l1_over_eyes_and_mouth() -> None:
    x, y = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    left, right, mouth = (np.s_[:, :, 25:35, 18:30], np.s_[:, :, 25:35, 34:46], np.s_[:, :, 41:53, 22:42])
    wanted = np.mean([np.abs(x.numpy()[box] - y.numpy()[box]).mean() for box in (left, right, mouth)])
    assert losses.RegionLoss(0.5)(x, y).item() == pytest.approx(0.5 * wanted, rel=1e-5)


@pytest.fixture
def dlib(tmp_path: Path) -> Path:
    """Random weights of dlib's embedding."""
    torch.manual_seed(0)
    path = tmp_path / "dlib.safetensors"
    save_file(DlibFace().state_dict(), path)
    return path


def test_the_identity_loss_measures_what_evaluate_measures(dlib: Path) -> None:
    loss = IdentityLoss(str(dlib), loss_weight=2.0)
    noise = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    rgb = np.stack([cv2.GaussianBlur(image, (0, 0), 6) for image in noise])
    crops = np.stack([face_crop(image, DLIB_BOX, DLIB_SIZE) for image in rgb])
    wanted = dlib_embedding(dlib, "cpu")(torch.from_numpy(crops).permute(0, 3, 1, 2))
    x = torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(loss.embedding(x), wanted, rtol=0, atol=0.01 * wanted.abs().max().item())
    x.requires_grad_()
    assert loss(x, x.detach()).item() == pytest.approx(0, abs=1e-6)
    value = loss(x, x.detach().flip(0))
    cosine = torch.nn.functional.cosine_similarity(wanted, wanted.flip(0)).mean()
    assert value.item() == pytest.approx(2 * (1 - cosine.item()), rel=0.05, abs=1e-6)
    value.backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_lite0_adds_four_heads_over_mixed_features(squeezenet: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    lite0 = EfficientNetLite0().eval()
    torch.save(lite0.state_dict(), tmp_path / "lite0.pth")
    x = torch.rand(2, 3, 64, 96)
    scales = lite0.pyramid(x)
    assert [tuple(f.shape[2:]) for f in scales] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    head = torch.nn.functional.relu6(lite0._bn1(lite0._conv_head(scales[-1])))
    torch.testing.assert_close(head.mean((2, 3)), lite0(x))
    net = FeatureDiscriminator(str(squeezenet), channels=8, lite0=str(tmp_path / "lite0.pth")).train()
    scores = net(x)
    assert [s.shape[1] for s in scores[5:]] == [6, 24, 96, 384]
    assert net.pyramid is not None
    assert not any(module.training for module in net.pyramid.modules())  # batch normalisation is frozen
    losses.AdversarialLoss("hinge").discriminator(scores, scores).backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in net.named_parameters() if name.startswith("heads")}


@pytest.mark.parametrize("side", [1, 2, 3, 7, 16, 255])
def test_a_region_of_a_small_map_is_at_least_a_pixel(side: int) -> None:
    for part, (left, top, width, height) in zip(
        losses.region_crops(torch.arange(side * side).view(1, 1, side, side)), losses.REGIONS.values(), strict=True
    ):
        assert part.numel() > 0
        for size, share in zip(part.shape[2:], (height, width), strict=True):
            assert abs(size - share * side) <= 1
        row, column = divmod(int(part[0, 0, 0, 0]), side)
        assert abs(row - top * side) <= 1
        assert abs(column - left * side) <= 1


def test_regions_have_heads_that_see_them_alone(squeezenet: Path) -> None:
    torch.manual_seed(0)
    net = FeatureDiscriminator(str(squeezenet), channels=8, regions=True).eval()
    face = torch.rand(2, 3, 256, 256).requires_grad_(True)
    scores = net(face)
    assert len(scores) == 10
    plain = FeatureDiscriminator(str(squeezenet), channels=8).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    for whole, same in zip(scores[:5], plain(face), strict=True):
        torch.testing.assert_close(whole, same)
    (gradient,) = torch.autograd.grad(scores[5].sum(), face, retain_graph=True)
    seen = gradient.abs().sum((0, 1)) > 0  # stride 2: a receptive field of a few pixels
    inside = torch.zeros(256, 256, dtype=torch.bool)
    for left, top, width, height in losses.REGIONS.values():
        inside[round((top - 0.05) * 256) : round((top + height + 0.05) * 256),
               round((left - 0.05) * 256) : round((left + width + 0.05) * 256)] = True  # fmt: skip
    assert seen.any()
    assert not (seen & ~inside).any()
    losses.AdversarialLoss("hinge").discriminator(scores, scores).backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in net.named_parameters() if name.startswith(("heads", "regions"))}


@pytest.mark.parametrize("content", ["missing", "text", "other"])
def test_wrong_weights_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("no weights")
    if content == "other":
        torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(GCFSRError, match=r"train.feature_opt.weights: .*weights\.pth"):
        FeatureLoss(str(path))
    with pytest.raises(GCFSRError, match=r"^weights: .*weights\.pth"):
        IdentityLoss(str(path))
