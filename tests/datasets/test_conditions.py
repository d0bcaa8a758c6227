"""What the data sets report of a degradation: in proportion to it, 0 where it is absent, and what each step did."""

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset
from gcfsr_datasets.degradation.blind_parameters import BlindRanges, draw_blind
from gcfsr_datasets.degradation.conditions import conditions_of
from gcfsr_datasets.degradation.photograph import (
    Photograph,
    PhotographRanges,
    Wear,
    apply_photograph,
    contributions,
    draw_photograph,
)
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.photograph_dataset import PhotographDegradationDataset

RANGES = PhotographRanges(blur_sigma=(0.2, 2.0), noise_range=(0, 20), jpeg_range=(50, 95))


@pytest.fixture
def folder(face: np.ndarray, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), face)
    return tmp_path


def options(folder, face, **more):
    return {"name": "a", "dataroot_gt": str(folder), "out_size": face.shape[0], "phase": "train", **more}


def test_each_condition_is_in_proportion_to_its_degradation():
    wear = Wear(sigma=(1.0, 0.5), noise=5 / 255, quality=70)
    expected = torch.tensor([8 / 32, 0.75 / 2, 5 / 20, 30 / 50])
    torch.testing.assert_close(conditions_of(8, 32, wear, RANGES), expected)
    torch.testing.assert_close(conditions_of(32, 32, Wear(), RANGES), torch.tensor([1.0, 0, 0, 0]))
    worst = Wear(sigma=(2.0, 2.0), noise=20 / 255, quality=50)
    torch.testing.assert_close(conditions_of(16, 32, worst, RANGES), torch.tensor([0.5, 1, 1, 1]))


def test_a_range_without_extent_gives_zero():
    still = PhotographRanges(noise_range=(0, 0), jpeg_range=(100, 100))
    assert conditions_of(4, 32, Wear(noise=0.0, quality=100), still)[2:].tolist() == [0, 0]
    assert conditions_of(4, 32, Wear(noise=0.1, quality=60), BlindRanges(noise_range=None, jpeg_range=None))[3] == 0


def test_each_degradation_is_absent_as_often_as_configured():
    ranges = PhotographRanges(worn_prob=1, blur_prob=0.3, noise_prob=0.6, jpeg_prob=0.8)
    rng = np.random.default_rng(0)
    worn = [draw_photograph(rng, ranges).wear for _ in range(2000)]
    present = [np.mean([getattr(w, key) is not None for w in worn]) for key in ("sigma", "noise", "quality")]
    np.testing.assert_allclose(present, [0.3, 0.6, 0.8], atol=0.04)
    blind = BlindRanges(blur_prob=0.3, noise_prob=0.6, jpeg_prob=0.8)
    drawn = [draw_blind(rng, blind) for _ in range(2000)]
    present = [np.mean([getattr(d, key) is not None for d in drawn]) for key in ("sigma", "noise", "quality")]
    np.testing.assert_allclose(present, [0.3, 0.6, 0.8], atol=0.04)


def test_certain_noise_leaves_every_other_draw_as_it_was():
    """The draws of an option file that does not know noise_prob: angle and phase come behind those of the wear."""
    drawn = draw_photograph(np.random.default_rng(3), PhotographRanges(exact_prob=0, worn_prob=1))
    rng = np.random.default_rng(3)
    rng.random(3), rng.random(3)
    blurred = drawn.wear.sigma is not None
    rest = [rng.random() for _ in range(2 * blurred + 2)]
    compressed = drawn.wear.quality is not None
    rest += [rng.random()] * compressed
    assert drawn.angle == pytest.approx(-12 + 24 * rng.random())
    assert drawn.wear.noise == pytest.approx(rest[2 * blurred + 1] * 12 / 255)


@pytest.mark.parametrize("angle", [None, 7.0])
def test_an_image_without_its_contribution_is_the_image_without_that_step(face: np.ndarray, angle):
    gt, rng = face.astype(np.float32) / 255, np.random.default_rng(5)
    draw = Photograph(angle, (0.3, 0.1), wear=Wear(sigma=(1.0, 0.7), noise=8 / 255, quality=60))
    lq = apply_photograph(gt, 4, draw, np.random.default_rng(5))
    parts = contributions(lq, gt, 4, draw, rng)
    assert rng.random() == np.random.default_rng(5).random()  # untouched
    no_noise = Photograph(angle, (0.3, 0.1), wear=Wear(sigma=(1.0, 0.7), quality=60))
    np.testing.assert_allclose(lq - parts[1], apply_photograph(gt, 4, no_noise, rng), atol=1e-6)
    no_blur = Photograph(angle, (0.3, 0.1), wear=Wear(noise=8 / 255, quality=60))
    np.testing.assert_allclose(lq - parts[0], apply_photograph(gt, 4, no_blur, np.random.default_rng(5)), atol=1e-6)
    clean = Photograph(angle, (0.3, 0.1))
    clean_lq = apply_photograph(gt, 4, clean, rng)
    assert (contributions(clean_lq, gt, 4, clean, rng) == 0).all()


def test_samples_hold_conditions_and_contributions(folder, face):
    worn = {"worn_prob": 1, "exact_prob": 0, "blur_prob": 0, "noise_prob": 1, "jpeg_prob": 0, "contributions": True}
    sample = PhotographDegradationDataset(options(folder, face, factor_range=[4, 4], **worn))[0]
    assert sample["conditions"].dtype == torch.float32
    assert sample["conditions"][[0, 1, 3]].tolist() == [4 / 32, 0, 0]
    assert sample["conditions"][2] > 0
    parts = sample["contributions"]
    assert parts.shape == (len(CONDITIONS) - 1, *sample["lq"].shape)
    assert (parts[0] == 0).all()
    noise = parts[1].std() * 127.5  # the image is enlarged, so it is less than the noise that was drawn
    assert 0.1 < noise / (sample["conditions"][2] * 12) < 1.1
    assert "contributions" not in PhotographDegradationDataset(options(folder, face))[0]


def test_the_other_data_sets_report_theirs(folder, face):
    sample = MultiFactorDegradationDataset(options(folder, face, factor=8, max_factor=32))[0]
    assert sample["conditions"].tolist() == [0.25, 0, 0, 0]
    blind = options(folder, face, blur_prob=0, noise_prob=0, jpeg_prob=0, downsample_range=[4, 8])
    sample = BlindFaceDegradationDataset(blind)[0]
    assert 0.5 <= sample["conditions"][0] <= 1
    assert sample["conditions"][1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("second_order", [None, {"prob": 1}])
@pytest.mark.parametrize(("ratio", "factor"), [(4, 4), (1.5, 1.5), (0.5, 1)])
def test_a_blind_sample_has_its_own_factor_and_the_fixed_dial(folder, face, second_order, ratio, factor):
    blind = options(folder, face, downsample_range=[ratio, ratio], second_order=second_order)
    sample = BlindFaceDegradationDataset(blind)[0]
    assert (sample["factor"], sample["s"]) == (factor, 1)  # losses read the factor, the network s


@pytest.mark.parametrize("key", ["noise_prob", "blur_prob", "jpeg_prob"])
@pytest.mark.parametrize("ranges", [PhotographRanges, BlindRanges])
def test_a_probability_above_one_is_refused(key, ranges):
    with pytest.raises(GCFSRError, match=key):
        ranges(**{key: 1.5})
