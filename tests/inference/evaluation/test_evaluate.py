"""`gcfsr evaluate` from end to end on small synthetic images: inputs, numbers, resuming."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from gcfsr_arch import GCFSRError
from gcfsr_inference.evaluation import methods
from gcfsr_inference.evaluation.conditions import PROTOCOLS
from gcfsr_inference.evaluation.evaluate import Settings, evaluate
from gcfsr_inference.evaluation.inputs import read_blind_ranges
from gcfsr_inference.evaluation.run import Evaluation
from gcfsr_inference.evaluation.workspace import read_bgr

Asked = Callable[..., Settings]


def test_every_number_can_be_recomputed_from_the_saved_images(asked: Asked, gt: Path, checkpoint: Path) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    specs = ("bicubic", "lanczos", f"ours={checkpoint}", "python:own_methods:half")
    report = evaluate(asked(gt, *specs, factors="4,8,8@12"), sheets=2)
    out = gt.parent / "out"
    assert [method["label"] for method in report["methods"]] == ["bicubic", "lanczos", "ours", "half"]
    for label, conditions in report["values"].items():
        assert list(conditions) == (["x4", "x8", "x8@12"] if label == "ours" else ["x4", "x8"])
        for condition, values in conditions.items():
            for name, value in values["psnr"].items():
                result = read_bgr(out / "results" / label / condition / f"{name}.png")
                wanted = metrics.peak_signal_noise_ratio(read_bgr(gt / f"{name}.png"), result, data_range=255)
                assert value == pytest.approx(wanted, abs=1e-9)
            assert set(values["niqe"].values()) == {None}  # 64x64: not defined
    assert (read_bgr(out / "results" / "half" / "x4" / "gen_a.png") == 128).all()
    assert read_bgr(out / "inputs" / "x8" / "gen_a.png").shape == (8, 8, 3)
    assert len(list((out / "sheets").glob("*.jpg"))) == 2 * 3
    for form in ("json", "csv", "md", "html"):
        assert (out / f"report.{form}").stat().st_size > 500
    assert str(gt.parent) not in "".join((out / f"report.{form}").read_text() for form in ("json", "csv", "md"))


def test_the_checkpoint_gets_the_input_of_training(asked: Asked, gt: Path, checkpoint: Path) -> None:
    """Bicubic up of the saved input, not clipped; s = dial / max_factor; fixed noise: the network's own call."""
    from gcfsr_arch import load_generator
    from gcfsr_datasets.degradation import degrade_multi_factor

    evaluate(asked(gt, f"ours={checkpoint}", factors="8,8@12", metrics=("psnr",)), sheets=0)
    net = load_generator(checkpoint)
    image = read_bgr(gt / "gen_a.png").astype(np.float32) / 255
    x = degrade_multi_factor(image, 8, quantize=True)
    for condition, dial in (("x8", 8), ("x8@12", 12)):
        with torch.no_grad():
            y = net(torch.from_numpy(x[None, :, :, ::-1].copy()).permute(0, 3, 1, 2) * 2 - 1, dial / 16, "fixed", 0)
        wanted = ((y[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5).clip(0, 255)
        found = read_bgr(gt.parent / "out" / "results" / "ours" / condition / "gen_a.png")
        assert np.abs(found - wanted).max() <= 0.51


def test_inputs_depend_on_seed_and_name_alone(asked: Asked, gt: Path, tmp_path: Path) -> None:
    reports = {}
    for key, options in {"one": {}, "again": {}, "seed": {"seed": 1}, "part": {"include": ("gen_*",)}}.items():
        out = str(tmp_path / key)
        reports[key] = evaluate(asked(gt, "bicubic", factors="4,blind", out=out, metrics=("psnr",), **options), 0)
    assert reports["one"] == reports["again"]
    one, other = (reports[key]["input_sha256"] for key in ("one", "seed"))
    assert one["x4"] == other["x4"]
    assert one["blind"] != other["blind"]
    assert list(reports["part"]["images"]) == ["gen_a", "gen_b", "gen_c"]
    files = [(tmp_path / key / "inputs" / "blind" / "gen_b.png").read_bytes() for key in ("one", "part")]
    assert files[0] == files[1]


def test_a_stopped_run_resumes_and_gives_the_same_report(
    asked: Asked, gt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(asked(gt, "bicubic", "lanczos"), sheets=0)
    out = gt.parent / "out"
    (out / "results" / "lanczos" / "x4" / "gen_a.png").unlink()
    values = out / "values" / "lanczos" / "x8.jsonl"
    values.write_text(values.read_text()[:-30])  # the last line is cut short, as a kill would
    restored, scored = [], []
    restore, task = methods.Lanczos.restore, Evaluation.task
    monkeypatch.setattr(methods.Lanczos, "restore", lambda m, low, *a: restored.append(len(low)) or restore(m, low, *a))
    monkeypatch.setattr(Evaluation, "task", lambda e, some, *a: scored.append(len(some)) or task(e, some, *a))
    assert evaluate(asked(gt, "bicubic", "lanczos"), sheets=0) == whole
    assert sum(restored) == 1
    assert sum(scored) == 1  # the new result is identical, so its value is still valid
    assert evaluate(asked(gt, "bicubic", "lanczos"), sheets=0) == whole


@pytest.mark.slow
def test_jobs_and_batch_size_do_not_change_the_values(asked: Asked, gt: Path, checkpoint: Path) -> None:
    specs = ("bicubic", f"ours={checkpoint}")
    one = evaluate(asked(gt, *specs, out=str(gt.parent / "a"), batch=1), sheets=0)
    two = evaluate(asked(gt, *specs, out=str(gt.parent / "b"), batch=5, jobs=2), sheets=0)
    for label, bound in (("bicubic", 0), ("ours", 0.05)):  # a batch may round a pixel differently
        for condition, values in one["values"][label].items():
            for metric in ("psnr", "ssim"):
                other = two["values"][label][condition][metric]
                assert all(abs(value - other[name]) <= bound for name, value in values[metric].items())


def test_out_size_is_our_bicubic_and_other_factors_are_skipped_with_the_reason(
    asked: Asked, gt: Path, checkpoint: Path
) -> None:
    from gcfsr_datasets.resize import resize

    out = str(gt.parent / "a")
    report = evaluate(asked(gt, f"{checkpoint}", "bicubic", out_size=64, factors="2,4", out=out), sheets=0)
    assert report["methods"][1]["absent"] == {"x2": "the checkpoint's factors are 4 to 16"}
    evaluate(asked(gt, "bicubic", out_size=32, factors="4"), sheets=0)
    wanted = resize(read_bgr(gt / "gen_a.png") / 255.0, (32, 32)).clip(0, 1) * 255
    assert np.abs(read_bgr(gt.parent / "out" / "gt" / "gen_a.png") - wanted).max() <= 0.5001


def test_blind_inputs_by_the_ranges_of_an_option_file(asked: Asked, gt: Path, tmp_path: Path) -> None:
    """No blur, no noise, no JPEG, one ratio: the input is the small image, enlarged."""
    data = {"type": "BlindFaceDegradationDataset", "dataroot_gt": "x", "out_size": 64, "blur_sigma": [0.001, 0.001],
            "downsample_range": [4, 4], "noise_range": None, "jpeg_range": None, "color_jitter_prob": None,
            "color_jitter_pt_prob": 0, "gray_prob": 0}  # fmt: skip
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump({"datasets": {"val": {"type": "Other"}, "train": data}}))
    ranges = read_blind_ranges(path)
    assert (ranges.downsample_range, ranges.noise_range, ranges.blur_kernel_size) == ((4, 4), None, 41)
    report = evaluate(asked(gt, "bicubic", factors="blind", metrics=("psnr",), blind=ranges), sheets=0)
    assert report["blind"]["downsample_range"] == (4, 4)
    assert "noise_range none" in (gt.parent / "out" / "report.md").read_text()
    for name in ("gen_a", "lon_b"):
        small = cv2.resize(read_bgr(gt / f"{name}.png"), (16, 16), interpolation=cv2.INTER_LINEAR)
        wanted = cv2.resize(small, (64, 64), interpolation=cv2.INTER_LINEAR)
        found = read_bgr(gt.parent / "out" / "inputs" / "blind" / f"{name}.png")
        assert np.abs(found.astype(int) - wanted).mean() < 1.5
    with pytest.raises(GCFSRError, match="blind differs"):
        evaluate(asked(gt, "bicubic", factors="blind", metrics=("psnr",)), sheets=0)


@pytest.mark.parametrize("text", ["{", "datasets: {train: {type: Other}}", "[1]", None])
def test_option_files_without_the_blind_degradation(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "o.yml").write_text(text)
    with pytest.raises(GCFSRError, match=r"o\.yml: ") as caught:
        read_blind_ranges(tmp_path / "o.yml")
    assert "\n" not in str(caught.value)


def test_published_rows_are_shown_at_the_papers_size_only(asked: Asked, gt: Path) -> None:
    for size, comparable in ((64, True), (32, False)):
        options = {"protocol": replace(PROTOCOLS["adv-512"], out_size=64), "out_size": size, "metrics": ("psnr",)}
        given = replace(asked(gt, "bicubic", out=str(gt.parent / str(size))), **options)
        evaluate(given, sheets=0)
        text = (Path(given.out) / "report.md").read_text()
        assert ("GFPGAN (published: Table 4, CelebA-HQ, 512x512)" in text) == comparable
        left_out = "(Table 4, CelebA-HQ, 512x512) are omitted: the ground truth is 32x32, not 64x64."
        assert (left_out in text) != comparable


def test_the_input_itself_comes_first(asked: Asked, gt: Path) -> None:
    report = evaluate(asked(gt, "lanczos", factors="4,blind", metrics=("psnr", "ssim")), sheets=0)
    assert [method["label"] for method in report["methods"]] == ["input", "lanczos"]
    for name, value in report["values"]["input"]["blind"]["psnr"].items():
        low, image = gt.parent / "out" / "inputs" / "blind" / f"{name}.png", gt / f"{name}.png"
        assert value == pytest.approx(cv2.PSNR(cv2.imread(str(low)), cv2.imread(str(image))), abs=1e-6)
    named = evaluate(asked(gt, "lanczos", "b=bicubic", factors="4", out=str(gt.parent / "other")), sheets=0)
    assert [method["label"] for method in named["methods"]] == ["b", "lanczos"]


def test_dials_at_what_is_read_at_the_truth_and_fixed(asked: Asked, gt: Path, tmp_path: Path) -> None:
    """The inputs are the data set's own samples; each method is the restorer's own call; the errors are recomputed."""
    from gcfsr_arch import GCFSR, save_generator
    from gcfsr_datasets.degradation.photograph import apply_photograph, wear_of
    from gcfsr_inference.evaluation.inputs import image_seed
    from gcfsr_inference.restore.restorer import Restorer

    torch.manual_seed(0)
    conditions = ("factor", "blur", "noise", "jpeg")
    options = {"min_factor": 2, "max_factor": 32, "conditions": conditions, "estimator": True}
    net = GCFSR(64, num_style_feat=16, narrow=1 / 32, **options)
    assert net.estimator is not None
    torch.nn.init.normal_(net.estimator.out.weight, std=0.1)  # drawn as 0, which would read the same of every face
    save_generator(net, tmp_path / "dials.safetensors")
    path = tmp_path / "options.yml"
    block = {"type": "PhotographDegradationDataset", "dataroot_gt": "nowhere", "out_size": 64, "factor_range": [2, 4],
             "worn_prob": 1.0, "noise_prob": 0.5, "noise_range": [0, 20], "jpeg_range": [30, 90]}  # fmt: skip
    path.write_text(yaml.safe_dump({"datasets": {"train": block}}))
    ranges = read_blind_ranges(path)
    specs = [f"{name}={tmp_path / 'dials.safetensors'}?dials={name}" for name in ("auto", "true", "0.5")]
    report = evaluate(asked(gt, *specs, factors="blind", metrics=("psnr",), blind=ranges), sheets=0)
    out, restorer = gt.parent / "out", Restorer.load(tmp_path / "dials.safetensors")
    true, read, deviation = [], [], []
    for name in report["images"]:
        low = read_bgr(out / "inputs" / "blind" / f"{name}.png")
        face, rng = read_bgr(gt / f"{name}.png").astype(np.float32) / 255, np.random.default_rng(image_seed(0, name))
        factor, draw = ranges.draw(rng, 64)
        assert np.abs(low - (apply_photograph(face, factor, draw, rng) * 255).clip(0, 255)).max() < 0.51
        wear = draw.wear
        known = {
            "factor": factor / 32, "blur": sum(wear.sigma or (0, 0)) / 2 / 1.5, "noise": (wear.noise or 0) * 255 / 20,
            "jpeg": (100 - wear.quality) / 70 if wear.quality else 0.0,
        }  # fmt: skip
        again = wear_of(known["blur"], known["noise"], known["jpeg"], ranges)
        assert (again.noise, again.quality) == (pytest.approx(wear.noise), wear.quality)
        fixed = {**dict.fromkeys(conditions, 0.5), "factor": restorer.strength(low)["factor"]}
        for label, s in (("auto", None), ("true", known), ("0.5", fixed)):
            found = read_bgr(out / "results" / label / "blind" / f"{name}.png")
            assert np.abs(found.astype(int) - restorer.restore(low, s=s)).max() <= 1
        estimate = restorer.backend.estimate(restorer.encode(low))
        true.append(list(known.values()))
        read.append(estimate.mean[0].tolist())
        deviation.append(estimate.deviation[0].tolist())
    errors = np.abs(np.array(read) - true)
    assert list(report["readings"]) == ["auto"]
    for k, name in enumerate(conditions):
        one = report["readings"]["auto"]["blind"][name]
        assert one["error"] == pytest.approx(errors[:, k].mean(), abs=1e-5)
        assert one["within"] == (errors[:, k] <= np.array(deviation)[:, k]).mean()
        ranks = [np.argsort(np.argsort(np.array(side)[:, k])) for side in (true, read)]
        if len(set(np.array(true)[:, k])) == len(true):
            assert one["correlation"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    text = (out / "report.md").read_text()
    assert "### What auto reads of the conditions" in text
    assert "Degradation of photographs: factor_range 2 to 4" in text
    assert str(tmp_path) not in text
