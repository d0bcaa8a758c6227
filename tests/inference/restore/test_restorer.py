"""`Restorer` against the network called directly, and the kinds of image it takes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch import GCFSR, GCFSRError, load_generator
from gcfsr_datasets.image_io import write_image
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.resize import resize
from gcfsr_inference import Restorer, estimate_factor
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.restore.arrays import network_input, network_output, to_depth, unit_bgr
from gcfsr_inference.restore.hashes import image_seed
from gcfsr_inference.restore.runner import FaceRunner, Settings

rng = np.random.default_rng(0)
FACE = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def restorer(tiny):
    return Restorer.load(tiny)


def directly(path, image, s, **noise):
    """The network itself on our own input: RGB, [-1, 1], bicubic as `degrade_multi_factor` leaves it."""
    net = load_generator(path)
    rgb = resize(image / 255.0, (32, 32))[..., ::-1]
    x = torch.tensor(rgb.transpose(2, 0, 1).copy(), dtype=torch.float32)[None] * 2 - 1
    with torch.no_grad():
        y = net(x, s, **noise)[0].clamp(-1, 1).numpy().transpose(1, 2, 0)[..., ::-1]
    return ((y + 1) / 2 * 255).round().astype(np.uint8)


def near(a, b):
    """Equal but for the rounding of the last step."""
    return a.shape == b.shape and a.dtype == b.dtype and np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize("noise", ["fixed", "zero"])
def test_equals_the_network_called_directly(restorer, tiny, noise):
    expected = directly(tiny, FACE, 4 / 16, noise=noise, seed=3)
    assert near(restorer.restore(FACE, factor=4, noise=noise, seed=3), expected)
    assert near(restorer.restore(FACE, s=0.25, noise=noise, seed=3), expected)
    assert near(restorer.decode(restorer.encode(FACE), 0.25, noise=noise, seed=3), expected)
    assert near(restorer.decode(restorer.encode(FACE), factor=4, noise=noise, seed=3), expected)


def test_auto_is_the_estimate_in_the_networks_range(restorer, astronaut):
    for side in (4, 16):
        image = to_depth(resize(unit_bgr(astronaut), (side, side)), np.uint8)
        factor = min(max(estimate_factor(image, 32), 2), 16)
        assert np.array_equal(restorer.restore(image), restorer.restore(image, factor=factor))


def test_a_batch_equals_singles(restorer):
    others = [FACE, FACE[:13, :13], np.rot90(FACE).copy()]
    for noise in ("fixed", "random", "zero"):
        batch = restorer.restore_batch(others, factor=8, noise=noise, seed=5)
        singles = [restorer.restore(image, factor=8, noise=noise, seed=5) for image in others]
        assert all(near(a, b) for a, b in zip(batch, singles, strict=True))
    assert restorer.restore_batch([]) == []


def test_random_noise_depends_on_seed_and_image(restorer):
    same = [restorer.restore(FACE, factor=4, noise="random", seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])
    assert not np.array_equal(restorer.noise("random", [1])[0], restorer.noise("random", [2])[0])


def test_images_of_one_seed_share_the_noise_unless_it_is_random():
    other = np.rot90(FACE).copy()
    assert image_seed(FACE, 1, "random") == image_seed(FACE.copy(), 1, "random") != image_seed(other, 1, "random")
    assert image_seed(FACE, 1, "fixed") == image_seed(other, 1, "fixed") == 1


def test_encodes_an_image_once(restorer, monkeypatch):
    calls = []
    plain = TorchBackend.encode
    monkeypatch.setattr(TorchBackend, "encode", lambda self, x: calls.append(1) or plain(self, x))
    image = np.flip(FACE).copy()
    first = restorer.restore(image, factor=2)
    restorer.restore(image, factor=16)
    assert len(calls) == 1
    restorer.restore(FACE, factor=2)
    assert len(calls) == 2
    assert np.array_equal(restorer.restore(image, factor=2), first)


def test_the_kind_of_image_is_kept(restorer):
    deep = FACE.astype(np.uint16) * 257
    gray = FACE[..., 0].copy()
    alpha = np.dstack([FACE, gray])
    plain = restorer.restore(FACE, factor=4)
    from_deep = restorer.restore(deep, factor=4)
    assert from_deep.dtype == np.uint16
    assert near((from_deep / 257).round().astype(np.uint8), plain)
    assert restorer.restore(gray, factor=4).shape == (32, 32)
    with_alpha = restorer.restore(alpha, factor=4)
    assert near(with_alpha[..., :3], plain)
    assert np.array_equal(with_alpha[..., 3], to_depth(resize(gray / 255, (32, 32)), np.uint8))


def test_strength_by_level_and_by_place(restorer):
    plain = restorer.restore(FACE, s=0.5)
    assert near(restorer.restore(FACE, s=[0.5, 0.5]), plain)
    assert near(restorer.restore(FACE, s=np.full((20, 20), 0.5)), plain)
    assert not near(restorer.restore(FACE, s=[0.2, 1.0]), plain)
    left_low = np.tile(np.linspace(0, 1, 20), (20, 1))
    assert not near(restorer.restore(FACE, s=left_low), plain)


def test_bf16_is_close(tiny, restorer):
    half = Restorer.load(tiny, dtype="bf16").restore(FACE, factor=4).astype(float)
    assert 0 < np.abs(half - restorer.restore(FACE, factor=4)).mean() < 4


def test_the_hash_is_the_files(restorer, tiny):
    import hashlib

    assert restorer.checkpoint_hash == hashlib.sha256(tiny.read_bytes()).hexdigest()


def test_a_blind_network_has_no_dial(tiny_blind):
    blind = Restorer.load(tiny_blind)
    assert blind.restore(FACE).shape == (32, 32, 3)
    for dial in ({"factor": 4}, {"s": 0.5}):
        with pytest.raises(GCFSRError, match="blind"):
            blind.restore(FACE, **dial)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 1}, "serves factors 2 to 16"),
        ({"factor": 17}, "serves factors 2 to 16"),
        ({"factor": float("nan")}, "serves factors"),
        ({"s": 1.5}, r"\[0, 1\]"),
        ({"s": float("nan")}, r"\[0, 1\]"),
        ({"s": [0.1, 0.2, 0.3]}, "2 levels"),
        ({"s": np.array([[0.1, np.nan]])}, r"\[0, 1\]"),
        ({"noise": "loud", "factor": 4}, "--noise"),
        ({"factor": "x"}, "--factor 'x': pass a number or 'auto'"),
        ({"factor": None}, "--factor 'None'"),
        ({"factor": [4]}, r"--factor '\[4\]'"),
        ({"s": []}, r"--s '\[\]': pass numbers"),
        ({"s": [0.1, "x"]}, "pass numbers"),
        ({"factor": 4, "s": 0.3}, "not both"),
        ({"factor": 4, "s": {"factor": 0.3}}, "not both"),
        ({"seed": 2**70}, f"--seed {2**70}: a whole number"),
        ({"seed": -1, "noise": "random"}, "--seed -1"),
        ({"seed": 1.5}, "--seed 1.5"),
        ({"blend": "x"}, "--blend 'x'"),
    ],
)
def test_wrong_values_are_named(restorer, options, words):
    with pytest.raises(GCFSRError, match=words):
        restorer.restore(FACE, **options)
    if "blend" not in options:
        with pytest.raises(GCFSRError, match=words):
            restorer.restore_batch([FACE], **options)


def test_a_runners_settings_are_checked(restorer):
    for wrong in ({"seed": 2**70}, {"seed": -1}, {"blend": 2}, {"draws": -1}, {"draws": 1.5}, {"factor": "x"}):
        with pytest.raises(GCFSRError, match=next(iter(wrong))):
            Settings(**wrong)
    for s in (0.5, [0.1, 0.2], np.full((20, 20), 0.5), {"factor": 0.5}):
        with pytest.raises(GCFSRError, match="pass s or factor, not both"):
            Settings(factor=4, s=s)
        assert Settings(factor=" Auto", s=s).s is s
    with pytest.raises(GCFSRError, match="--factor 'x'"):
        FaceRunner(restorer, Settings(factor="x"))


@pytest.mark.parametrize("factors", [4, None, np.float32(4), np.array(4)])
def test_factors_that_are_no_list_are_named(restorer, factors):
    with pytest.raises(GCFSRError, match=r"^factors '.*': pass a list of numbers$"):
        restorer.restore_at(FACE, factors)


def test_the_spelling_of_auto_and_of_numbers(restorer):
    assert np.array_equal(restorer.restore(FACE, " Auto"), restorer.restore(FACE))
    assert np.array_equal(restorer.restore(FACE, np.float32(8)), restorer.restore(FACE, "8"))
    assert FaceRunner(restorer, Settings("AUTO")).prepare(FACE) == FaceRunner(restorer).prepare(FACE)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((1, 1, 3), np.uint8), "1x1"),
        (np.zeros((10, 4000, 3), np.uint8), "4000x10"),
        (np.zeros((20, 20, 2), np.uint8), "2 channels"),
        (np.zeros((20, 20, 3)), "uint8"),
        (None, "uint8"),
    ],
)
def test_arrays_that_are_not_faces_are_refused(restorer, image, words):
    for call in (restorer.restore, restorer.estimate_factor):
        with pytest.raises(GCFSRError, match=words):
            call(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:99"}, "--device cuda:99"),
        ({"device": "toaster"}, "--device toaster"),
        ({"backend": "abacus"}, "--backend abacus"),
        ({"dtype": "fp8"}, "--dtype fp8"),
    ],
)
def test_what_is_not_here_is_named(tiny, options, words):
    with pytest.raises(GCFSRError, match=words):
        Restorer.load(tiny, **options)


def test_decode_takes_s_or_factor(restorer):
    with pytest.raises(GCFSRError, match="not both"):
        restorer.decode(restorer.encode(FACE), 0.5, factor=8)
    for wrong in ({"factor": "auto"}, {"factor": 8, "seed": 2**70}):
        with pytest.raises(GCFSRError, match=f"--{list(wrong)[-1]}"):
            restorer.decode(restorer.encode(FACE), **wrong)
    with pytest.raises(GCFSRError, match="decode: pass s or factor"):
        restorer.decode(restorer.encode(FACE))


@pytest.mark.parametrize("given", [{"s": 0.5}, {"factor": 8}])
def test_decode_of_a_blind_network_takes_neither(given):
    blind = Restorer(TorchBackend(GCFSR(32, num_style_feat=8, narrow=1 / 16, blind=True), "cpu"))
    features = blind.encode(FACE)
    assert blind.decode(features).shape == (32, 32, 3)
    with pytest.raises(GCFSRError, match="blind: it has no dial"):
        blind.decode(features, **given)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([np.uint8, np.uint16]), st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_to_the_network_and_back_changes_nothing(dtype, side, seed):
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (side, side, 3), dtype, endpoint=True)
    tensor = network_input(image, side)
    assert tensor.shape == (1, 3, side, side)
    assert tensor.abs().max() <= 1
    assert np.array_equal(network_output(tensor[0], image), image)


def edges(side):
    """Four black and white blocks a side, which bicubic enlargement overshoots."""
    block = np.indices((side, side)).sum(0) // (side // 4) % 2 * 255
    return np.stack([block, 255 - block, block.T], axis=2).astype(np.uint8)


def test_restoring_and_training_give_the_network_one_input(tmp_path):
    """The dataset's own sample against the file that would hold the LR image: enlarged, not clipped, not rounded."""
    write_image(tmp_path / "face.png", edges(64))
    opt = {"type": "MultiFactorDegradationDataset", "dataroot_gt": str(tmp_path), "out_size": 64, "quantize": True}
    sample = MultiFactorDegradationDataset({**opt, "factors": [4], "max_factor": 4, "use_hflip": False})[0]
    small = np.clip(np.round(resize(edges(64) / 255, (16, 16)) * 255), 0, 255).astype(np.uint8)
    assert sample["lq"].abs().max() > 1.05
    assert (network_input(small, 64)[0] - sample["lq"]).abs().max() < 1e-5


def test_the_released_form_gets_an_enlarged_image_of_8_bits(tmp_path):
    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=32, narrow=1 / 16, variant="released", max_factor=16)
    x = Restorer(TorchBackend(net)).input(edges(16))
    wanted = np.clip(np.round(resize(edges(16) / 255, (32, 32)) * 255), 0, 255)
    assert (x[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5 == pytest.approx(wanted, abs=1e-4)
    assert network_input(edges(16), 32).abs().max() > 1.05


@pytest.mark.parametrize("channels", [3, 4])
def test_three_equal_channels_stay_equal(restorer, channels):
    gray = np.dstack([FACE[..., 0]] * channels)
    result = restorer.restore(gray, factor=4)
    assert result.shape[2] == channels
    assert (result[..., :1] == result[..., 1:3]).all()
    assert not (restorer.restore(FACE, factor=4)[..., :1] == restorer.restore(FACE, factor=4)[..., 1:3]).all()


def test_a_network_that_returns_nan_is_named(tiny):
    net = load_generator(tiny)
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(GCFSRError, match="NaN or infinity"):
        Restorer(TorchBackend(net)).restore(FACE, factor=4)


def test_several_factors_equal_single_calls_and_encode_once(tiny):
    """Features are kept for as many images as asked for, and the oldest are released first."""
    net, calls = load_generator(tiny), []
    encode = net.encode
    net.encode = lambda x: calls.append(1) or encode(x)
    restorer = Restorer(TorchBackend(net), kept=2)
    for image, count in ((FACE, 1), (FACE[::-1], 2), (FACE, 2), (FACE[:, ::-1], 3), (FACE[::-1], 4)):
        at = restorer.restore_at(image, [2, 8, 16], "random", 7)
        assert len(calls) == count
        assert all(
            np.array_equal(one, restorer.restore(image, factor, noise="random", seed=7))
            for one, factor in zip(at, [2, 8, 16], strict=True)
        )


@pytest.mark.parametrize("kept", [1, 4])
def test_four_threads_give_what_each_call_gives_alone(tiny: Path, kept: int) -> None:
    """With one image kept, threads of other images throw each other's features away."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (16, 20, 24)]
    calls = [(image, factor, noise) for image in images for factor in (2.0, 5.0, 16.0) for noise in ("fixed", "random")]
    alone = [Restorer.load(tiny, "cpu").restore(image, factor, noise=noise) for image, factor, noise in calls]
    shared = Restorer.load(tiny, "cpu", kept=kept)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            together = list(threads.map(lambda call: shared.restore(call[0], call[1], noise=call[2]), calls))
            for one, other in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one, other)


def test_threads_that_want_one_image_encode_it_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = Restorer.load(tiny, "cpu")
    encode, count, barrier = restorer.backend.encode, [], Barrier(4)
    monkeypatch.setattr(restorer.backend, "encode", lambda x: (count.append(1), encode(x))[1])
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: (barrier.wait(), restorer.encode(image)), range(4)))
    assert len(count) == 1
