"""Several dials in restoring: what is said, what is read from the image, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRError, save_generator
from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.estimator import Estimate
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.cli import main
from gcfsr_inference.figures.sweep import LABEL, WIDEST
from gcfsr_inference.restore.autofactor import estimate_factor
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceRunner, Settings

FACE = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)


def network(**options) -> GCFSR:
    torch.manual_seed(0)
    net = GCFSR(32, narrow=1 / 32, num_style_feat=16, conditions=CONDITIONS, min_factor=1.25, **options)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias") or name == "estimator.out.weight":
                parameter += 0.3 * torch.randn(parameter.shape)
        if net.estimator is not None:
            net.estimator.out.bias[len(CONDITIONS) :] -= 8  # nearly certain, so that no dial is at its end
    return net


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(TorchBackend(network(estimator=True)))


def by_hand(restorer: Restorer, image: np.ndarray, s: list[float]) -> np.ndarray:
    with torch.no_grad():
        output = restorer.backend.net(restorer.input(image), torch.tensor([s]), noise="fixed", seed=0)[0]
    rgb = ((output.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return rgb[..., ::-1]


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the rounding of the last step."""
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_dictionary_sets_every_condition_by_its_name(restorer):
    told = {"jpeg": 0.25, "factor": 0.5, "blur": 0.125, "noise": 1.0}
    assert_near(restorer.restore(FACE, s=told), by_hand(restorer, FACE, [0.5, 0.125, 1.0, 0.25]))


def test_auto_is_what_the_estimator_reads(restorer):
    read = restorer.backend.net.estimate(restorer.encode(FACE)).dials()[0].tolist()
    assert len({round(value, 3) for value in read[1:]}) > 1
    factor = restorer.strength(FACE)["factor"]
    expected = by_hand(restorer, FACE, [factor, *read[1:]])
    assert_near(restorer.restore(FACE), expected)
    assert_near(restorer.restore(FACE, s="auto"), expected)
    part = restorer.restore(FACE, s={"factor": 0.5, "noise": "auto", "blur": 0, "jpeg": 1})
    assert_near(part, by_hand(restorer, FACE, [0.5, 0, read[2], 1]))


@pytest.mark.parametrize(("read", "expected"), [(1.5 / 32, 1.5), (0.5 / 32, 1.0), (0.9, None)])
def test_the_factors_auto_is_the_smaller_of_two_estimates(monkeypatch, read, expected):
    """None: the spectrum's, which is the smaller one of the last case."""
    restorer, small = Restorer(TorchBackend(network(estimator=True))), cv2.resize(FACE, (5, 5))
    spectrum = estimate_factor(small, 32)
    assert 1.5 < spectrum < 0.9 * 32
    told = Estimate(torch.tensor([[read, 0.1, 0.2, 0.3]]), torch.full((1, 4), 0.1))
    monkeypatch.setattr(restorer.backend, "estimate", lambda features: told)
    expected = spectrum if expected is None else expected
    assert restorer.estimate_factor(small) == pytest.approx(expected)
    assert restorer.strength(small)["factor"] * 32 == pytest.approx(max(expected, restorer.min_factor))
    assert FaceRunner(restorer).prepare(small).input_factor == pytest.approx(expected)


def test_without_an_estimator_the_factors_auto_is_the_spectrums():
    restorer = Restorer(TorchBackend(network()))
    assert restorer.estimate_factor(FACE) == estimate_factor(FACE, 32)


def test_one_face_is_encoded_once(monkeypatch):
    restorer, calls = Restorer(TorchBackend(network(estimator=True))), []
    encode = restorer.backend.encode
    monkeypatch.setattr(restorer.backend, "encode", lambda x: calls.append(len(x)) or encode(x))
    runner = FaceRunner(restorer)
    runner.restore_faces([runner.prepare(FACE)])
    assert calls == [1]


def test_a_number_is_the_factors_and_the_rest_is_read_wherever_it_is_passed(restorer):
    read = restorer.backend.net.estimate(restorer.encode(FACE)).dials()[0].tolist()
    expected = by_hand(restorer, FACE, [0.5, *read[1:]])
    features = restorer.encode(FACE)
    for image in (
        restorer.restore(FACE, s=0.5), restorer.restore(FACE, factor=16), restorer.restore_at(FACE, [16])[0],
        restorer.decode(features, 0.5), restorer.decode(features, factor=16),
        restorer.run_batch([FACE], [0.5], "fixed", [0])[0],
    ):  # fmt: skip
        assert_near(image, expected)


def test_a_batch_reads_each_image_for_itself(restorer):
    other = np.full_like(FACE, 90)
    together = restorer.restore_batch([FACE, other], factor=8)
    for one, image in zip(together, (FACE, other), strict=True):
        assert np.abs(one.astype(int) - restorer.restore(image, factor=8)).max() <= 1


def test_without_an_estimator_what_is_not_said_is_absent():
    restorer = Restorer(TorchBackend(network()))
    image = restorer.restore(FACE, s={"factor": 0.5, "noise": 0.5})
    assert_near(image, by_hand(restorer, FACE, [0.5, 0, 0.5, 0]))
    with pytest.raises(GCFSRError, match="estimator: true"):
        restorer.restore(FACE, s={"factor": 0.5, "noise": "auto"})


def test_a_map_of_one_condition_goes_with_numbers_of_the_others(restorer):
    even = {"factor": np.full((32, 32), 0.5, np.float32), "blur": 0.2, "noise": 0.3, "jpeg": 0.4}
    numbers = restorer.restore(FACE, s={**even, "factor": 0.5})
    assert np.abs(restorer.restore(FACE, s=even).astype(int) - numbers).max() <= 1


def test_a_map_of_the_factor_leaves_the_other_dials_to_be_read(restorer):
    read = restorer.backend.net.estimate(restorer.encode(FACE)).dials()[0].tolist()
    told = dict(zip(CONDITIONS[1:], read[1:], strict=True))
    map_of_factor = np.full((32, 32), 0.5, np.float32)
    found = restorer.restore(FACE, s={"factor": map_of_factor})
    assert_near(found, restorer.restore(FACE, s={"factor": map_of_factor, **told}))


def test_the_record_says_where_the_dials_were(restorer):
    runner = FaceRunner(restorer, Settings(factor=8, dials={"noise": 0.7}))
    ((image, record, _),) = runner.restore_faces([runner.prepare(FACE)])
    read = restorer.backend.net.estimate(restorer.encode(FACE)).dials()[0].tolist()
    expected = {"blur": read[1], "noise": 0.7, "jpeg": read[3]}
    assert record.conditions == pytest.approx(expected, abs=1e-6)
    assert record.as_dict()["factor"] == 8
    assert_near(image, restorer.restore(FACE, s={"factor": 8 / 32, **expected}))


@pytest.mark.parametrize(
    ("s", "words"),
    [
        ({"factor": 0.5, "haze": 1}, "haze: this checkpoint has no dial for it; it has factor, blur"),
        ({"factor": 0.5, "noise": 1.5}, "must be in"),
        ([0.1, 0.2, 0.3, 0.4], "s: 4 values; this network has 2 levels"),
        ({"factor": 0.5, "noise": "much"}, "noise: .much.; a number"),
        ("much", "pass 'auto'"),
    ],
)
def test_wrong_settings_end_in_one_line(restorer, s, words):
    with pytest.raises(GCFSRError, match=words):
        restorer.restore(FACE, s=s)


@pytest.mark.parametrize(("s", "words"), [({"noise": 0.5}, "'factor' is missing"), ({"factor": 0.5, "haze": 1}, "haze"),
                                          ({"factor": "auto"}, "factor: 'auto'")])  # fmt: skip
def test_decode_takes_what_needs_no_image(restorer, s, words):
    with pytest.raises(GCFSRError, match=words):
        restorer.decode(restorer.encode(FACE), s)


def test_the_command_takes_a_dial_for_each(tmp_path: Path, restorer, capsys):
    save_generator(restorer.backend.net, tmp_path / "dials.safetensors")
    cv2.imwrite(str(tmp_path / "face.png"), FACE)
    start = ["restore", "-i", str(tmp_path / "face.png"), "-o", str(tmp_path / "out"), "--aligned", "-v"]
    start.append(str(tmp_path / "dials.safetensors"))
    dials = ["--factor", "8", "--denoise", "auto", "--deblur", "0.3", "--dejpeg", "0", "--sidecar"]
    assert main([*start, *dials]) == 0
    read = restorer.backend.net.estimate(restorer.encode(FACE)).dials()[0].tolist()
    expected = restorer.restore(FACE, s={"factor": 8 / 32, "blur": 0.3, "noise": read[2], "jpeg": 0.0})
    (result,) = (tmp_path / "out/restored_faces").glob("*.png")
    assert_near(cv2.imread(str(result)), expected)
    (note,) = (tmp_path / "out").rglob("*.json")
    face = json.loads(note.read_text())["faces"][0]
    assert face["conditions"] == pytest.approx({"blur": 0.3, "noise": read[2], "jpeg": 0.0}, abs=1e-4)
    assert main(["restore", "--from-sidecar", str(note), "-o", str(tmp_path / "again")]) == 0
    (again,) = (tmp_path / "again/restored_faces").glob("*.png")
    assert again.read_bytes() == result.read_bytes()
    capsys.readouterr()
    assert main([*start, "--denoise", "2"]) == 2
    assert capsys.readouterr().err.strip().endswith("--denoise 2: a number in [0, 1] or 'auto'")
    assert main([*start[:-1], "gcfsr-nano", "--denoise", "0.5"]) == 2
    assert "--denoise: this checkpoint has no dial for it; it has factor" in capsys.readouterr().err


def test_a_sheet_has_a_row_for_every_setting_of_a_dial(tmp_path: Path, restorer, capsys):
    save_generator(restorer.backend.net, tmp_path / "dials.safetensors")
    cv2.imwrite(str(tmp_path / "face.png"), FACE)
    start = ["sweep", "-i", str(tmp_path / "face.png"), "-v", str(tmp_path / "dials.safetensors"), "-o"]
    target = str(tmp_path / "sheet.png")
    assert main([*start, target, "--factors", "4,16", "--denoise", "0,0.5,1"]) == 0
    sheet = cv2.imread(target)
    assert sheet.shape == (3 * (WIDEST + LABEL), 3 * WIDEST, 3)
    read = restorer.backend.net.estimate(restorer.encode(FACE)).dials()[0].tolist()
    for row, noise in enumerate((0.0, 0.5, 1.0)):
        face = restorer.restore(FACE, s={"factor": 16 / 32, "blur": read[1], "noise": noise, "jpeg": read[3]})
        shown = sheet[row * (WIDEST + LABEL) :][:WIDEST, 2 * WIDEST :]
        assert_near(shown, cv2.resize(face, (WIDEST, WIDEST), interpolation=cv2.INTER_NEAREST))
    capsys.readouterr()
    two, word, auto = ["--denoise", "0", "--deblur", "1"], ["--denoise", "a"], ["--denoise", "auto"]
    for wrong, words in ((two, "--deblur and --denoise"), (word, "'auto'"), (auto, "separated by commas")):
        assert main([*start, target, *wrong]) == 2
        assert words in capsys.readouterr().err
