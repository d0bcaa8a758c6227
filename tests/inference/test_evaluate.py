"""`gcfsr evaluate` from end to end on small made-up pictures: methods, inputs, resuming, faults, the command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRError, save_generator
from gcfsr_inference.evaluate import Settings, evaluate
from gcfsr_inference.evaluation import methods
from gcfsr_inference.evaluation.conditions import find_protocol, parse_factors
from gcfsr_inference.evaluation.run import Evaluation
from gcfsr_inference.evaluation.specs import build_method

METRICS = ("psnr", "ssim", "niqe", "consistency")


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Five smooth pictures of 64x64, named out of order."""
    folder = tmp_path / "truth"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("lon_b", "gen_a", "lon_a", "gen_c", "gen_b"):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator with factors 4 to 16."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_generator(GCFSR(64, num_style_feat=16, narrow=1 / 32, max_factor=16), path)
    return path


def settings(truth: Path, *specs: str, factors: str = "4,8", **options: Any) -> Settings:
    options = {"metrics": METRICS, "out": str(truth.parent / "out"), "batch": 2, **options}
    return Settings(truth=str(truth), protocol=find_protocol(None, factors), methods=specs, **options)


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image


def half(low: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    """A Python method: every pixel 127.5, which rounds to even, 128."""
    assert low.dtype == np.uint8
    assert low.shape[0] == round(size[0] / factor)
    return np.full((*size, 3), 127.5, np.float32)


def broken(low: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    """NaN for the picture whose first pixel is darkest of all: found by its mean."""
    result = np.zeros((*size, 3), np.float32)
    if low.mean() < broken.limit:  # type: ignore[attr-defined]
        result[0, 0] = np.nan
    return result


def raising(low: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    raise KeyError("no such face")


@pytest.fixture(autouse=True)
def own_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python:own_methods:half` and the like."""
    monkeypatch.setitem(sys.modules, "own_methods", sys.modules[__name__])


def test_every_number_can_be_computed_again_from_the_saved_pictures(truth: Path, checkpoint: Path) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    specs = ("bicubic", "lanczos", f"ours={checkpoint}", "python:own_methods:half")
    report = evaluate(settings(truth, *specs, factors="4,8,8@12"), sheets=2)
    out = truth.parent / "out"
    assert [method["label"] for method in report["methods"]] == ["bicubic", "lanczos", "ours", "half"]
    for label, conditions in report["values"].items():
        assert list(conditions) == (["x4", "x8", "x8@12"] if label == "ours" else ["x4", "x8"])
        for condition, values in conditions.items():
            for name, value in values["psnr"].items():
                result = read(out / "results" / label / condition / f"{name}.png")
                wanted = metrics.peak_signal_noise_ratio(read(truth / f"{name}.png"), result, data_range=255)
                assert value == pytest.approx(wanted, abs=1e-9)
            assert set(values["niqe"].values()) == {None}  # 64x64: not defined
    assert (read(out / "results" / "half" / "x4" / "gen_a.png") == 128).all()
    assert read(out / "inputs" / "x8" / "gen_a.png").shape == (8, 8, 3)
    assert len(list((out / "sheets").glob("*.jpg"))) == 2 * 3
    for form in ("json", "csv", "md", "html"):
        assert (out / f"report.{form}").stat().st_size > 500
    assert str(truth.parent) not in "".join((out / f"report.{form}").read_text() for form in ("json", "csv", "md"))


def test_the_checkpoint_gets_what_training_gave_it(truth: Path, checkpoint: Path) -> None:
    """Bicubic up of the saved input, s = dial / max_factor, fixed noise: spelt out with the network's own call."""
    from gcfsr_arch import load_generator
    from gcfsr_datasets.degradation import degrade_multi_factor

    evaluate(settings(truth, f"ours={checkpoint}", factors="8,8@12", metrics=("psnr",)), sheets=0)
    net = load_generator(checkpoint)
    gt = read(truth / "gen_a.png").astype(np.float32) / 255
    x = np.clip(degrade_multi_factor(gt, 8, quantize=True), 0, 1)
    for condition, dial in (("x8", 8), ("x8@12", 12)):
        with torch.no_grad():
            y = net(torch.from_numpy(x[None, :, :, ::-1].copy()).permute(0, 3, 1, 2) * 2 - 1, dial / 16, "fixed", 0)
        wanted = ((y[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5).clip(0, 255)
        found = read(truth.parent / "out" / "results" / "ours" / condition / "gen_a.png")
        assert np.abs(found - wanted).max() <= 0.51


def test_inputs_depend_on_seed_and_name_alone(truth: Path, tmp_path: Path) -> None:
    reports = {}
    for key, options in {"one": {}, "again": {}, "seed": {"seed": 1}, "part": {"include": ("gen_*",)}}.items():
        out = str(tmp_path / key)
        reports[key] = evaluate(settings(truth, "bicubic", factors="4,blind", out=out, metrics=("psnr",), **options), 0)
    assert reports["one"] == reports["again"]
    one, other = (reports[key]["input_sha256"] for key in ("one", "seed"))
    assert one["x4"] == other["x4"]
    assert one["blind"] != other["blind"]
    assert list(reports["part"]["pictures"]) == ["gen_a", "gen_b", "gen_c"]
    files = [(tmp_path / key / "inputs" / "blind" / "gen_b.png").read_bytes() for key in ("one", "part")]
    assert files[0] == files[1]


def test_a_stopped_run_goes_on_and_ends_with_the_same_report(truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(settings(truth, "bicubic", "lanczos"), sheets=0)
    out = truth.parent / "out"
    (out / "results" / "lanczos" / "x4" / "gen_a.png").unlink()
    values = out / "values" / "lanczos" / "x8.jsonl"
    values.write_text(values.read_text()[:-30])  # the last line is cut short, as a kill would
    restored, scored = [], []
    restore, task = methods.Lanczos.restore, Evaluation.task
    monkeypatch.setattr(methods.Lanczos, "restore", lambda m, low, *a: restored.append(len(low)) or restore(m, low, *a))
    monkeypatch.setattr(Evaluation, "task", lambda e, some, *a: scored.append(len(some)) or task(e, some, *a))
    assert evaluate(settings(truth, "bicubic", "lanczos"), sheets=0) == whole
    assert sum(restored) == 1
    assert sum(scored) == 1  # the picture made again is the same, so its value still stands
    assert evaluate(settings(truth, "bicubic", "lanczos"), sheets=0) == whole


@pytest.mark.slow
def test_jobs_and_batches_change_nothing(truth: Path, checkpoint: Path) -> None:
    specs = ("bicubic", f"ours={checkpoint}")
    one = evaluate(settings(truth, *specs, out=str(truth.parent / "a"), batch=1), sheets=0)
    two = evaluate(settings(truth, *specs, out=str(truth.parent / "b"), batch=5, jobs=2), sheets=0)
    for label, bound in (("bicubic", 0), ("ours", 0.05)):  # a batch may round a pixel differently
        for condition, values in one["values"][label].items():
            for metric in ("psnr", "ssim"):
                other = two["values"][label][condition][metric]
                assert all(abs(value - other[name]) <= bound for name, value in values[metric].items())


def test_a_folder_of_results_gives_the_numbers_of_its_pictures(truth: Path) -> None:
    first = evaluate(settings(truth, "bicubic"), sheets=0)
    results = truth.parent / "out" / "results" / "bicubic"
    second = evaluate(settings(truth, f"GPEN=folder:{results}", out=str(truth.parent / "b")), sheets=0)
    assert second["values"]["GPEN"] == first["values"]["bicubic"]
    alone = settings(truth, f"GPEN=folder:{results / 'x4'}", out=str(truth.parent / "c"), factors="4")
    alone = evaluate(alone, sheets=0)
    assert alone["values"]["GPEN"]["x4"] == first["values"]["bicubic"]["x4"]
    old = second["values"]["GPEN"]["x4"]["psnr"]
    cv2.imwrite(str(results / "x4" / "gen_b.png"), np.zeros((64, 64, 3), np.uint8))  # made anew elsewhere
    third = evaluate(settings(truth, f"GPEN=folder:{results}", out=str(truth.parent / "b")), sheets=0)
    changed = {name for name, value in third["values"]["GPEN"]["x4"]["psnr"].items() if value != old[name]}
    assert changed == {"gen_b"}
    with pytest.raises(GCFSRError, match="has no folder x4"):
        evaluate(settings(truth, f"folder:{results / 'x4'}", out=str(truth.parent / "d")), sheets=0)


def spoil(folder: Path, kind: str) -> str:
    """Makes one fault in a method's folder; returns what the message must name."""
    path = folder / "gen_b.png"
    if kind == "missing":
        path.unlink()
        return "gen_b: missing in the method's folder"
    if kind == "extra":
        cv2.imwrite(str(folder / "stranger.png"), np.zeros((64, 64, 3), np.uint8))
        return "1 pictures have no truth (stranger)"
    if kind == "size":
        cv2.imwrite(str(path), np.zeros((32, 64, 3), np.uint8))
        return "gen_b: is 64x32, the truth is 64x64"
    path.write_bytes(path.read_bytes()[:100])
    return "gen_b.png"


@pytest.mark.parametrize("kind", ["missing", "extra", "size", "truncated"])
def test_a_fault_in_a_folder_is_named_and_kept_out_everywhere(kind: str, truth: Path) -> None:
    evaluate(settings(truth, "bicubic", factors="4"), sheets=0)
    folder = truth.parent / "out" / "results" / "bicubic" / "x4"
    text = spoil(folder, kind)

    def run(**options: str) -> dict[str, Any]:
        out = str(truth.parent / kind)
        return evaluate(settings(truth, "lanczos", f"A=folder:{folder}", factors="4", out=out, **options), sheets=0)

    with pytest.raises(GCFSRError) as caught:
        run()
    assert text in str(caught.value)
    assert "--on-bad exclude" in str(caught.value)
    report = run(on_bad="exclude")
    kept = 5 if kind == "extra" else 4
    assert len(report["pictures"]) == len(report["values"]["lanczos"]["x4"]["psnr"]) == kept
    assert [entry["name"] for entry in report["excluded"]] == ["stranger" if kind == "extra" else "gen_b"]
    assert "1 pictures excluded" in (truth.parent / kind / "report.md").read_text() or kind == "extra"


def test_nan_in_an_output_is_named_and_kept_out_everywhere(truth: Path) -> None:
    means = {path.stem: read(path).mean() for path in truth.iterdir()}
    darkest, second = sorted(means, key=means.__getitem__)[:2]
    broken.limit = (means[darkest] + means[second]) / 2  # type: ignore[attr-defined]
    with pytest.raises(GCFSRError, match=f"broken x4: {darkest}: NaN or infinite"):
        evaluate(settings(truth, "bicubic", "python:own_methods:broken"), sheets=0)
    report = evaluate(settings(truth, "bicubic", "python:own_methods:broken", on_bad="exclude"), sheets=0)
    assert darkest not in report["values"]["bicubic"]["x8"]["psnr"]
    assert len(report["pictures"]) == 4
    with pytest.raises(GCFSRError, match=r"python:own_methods:raising.*KeyError.*no such face"):
        evaluate(settings(truth, "python:own_methods:raising"), sheets=0)


def test_a_truth_that_changed_or_does_not_fit_is_refused(truth: Path, checkpoint: Path) -> None:
    evaluate(settings(truth, "bicubic"), sheets=0)
    evaluate(settings(truth, "bicubic", limit=2), sheets=0)  # a part of it is no change
    with pytest.raises(GCFSRError, match="seed differs"):
        evaluate(settings(truth, "bicubic", seed=3), sheets=0)
    with pytest.raises(GCFSRError, match="results of bicubic of another run \\(function differs"):
        evaluate(settings(truth, "bicubic=python:own_methods:half"), sheets=0)
    cv2.imwrite(str(truth / "gen_a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(GCFSRError, match="gen_a is another picture"):
        evaluate(settings(truth, "bicubic"), sheets=0)
    other = str(truth.parent / "other")
    with pytest.raises(GCFSRError, match="smaller than --out-size 128"):
        evaluate(settings(truth, "bicubic", out=other, out_size=128), sheets=0)
    with pytest.raises(GCFSRError, match="pass --out-size 64"):
        evaluate(settings(truth, f"{checkpoint}", out=other, out_size=32), sheets=0)


def test_out_size_is_our_bicubic_and_other_factors_are_skipped_with_the_reason(truth: Path, checkpoint: Path) -> None:
    from gcfsr_datasets.resize import resize

    out = str(truth.parent / "a")
    report = evaluate(settings(truth, f"{checkpoint}", "bicubic", out_size=64, factors="2,4", out=out), sheets=0)
    assert report["methods"][0]["absent"] == {"x2": "the checkpoint's factors are 4 to 16"}
    evaluate(settings(truth, "bicubic", out_size=32, factors="4"), sheets=0)
    wanted = resize(read(truth / "gen_a.png") / 255.0, (32, 32)).clip(0, 1) * 255
    assert np.abs(read(truth.parent / "out" / "truth" / "gen_a.png") - wanted).max() <= 0.5001


@pytest.mark.slow
def test_basicsr_and_spandrel_run_the_same_network_alike(truth: Path, tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    arch = pytest.importorskip("basicsr.archs.srvgg_arch")
    torch.manual_seed(0)
    net = arch.SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=2, upscale=4, act_type="prelu")
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    sizes = "num_in_ch: 3, num_out_ch: 3, num_feat: 16, num_conv: 2, upscale: 4, act_type: prelu"
    (tmp_path / "opt.yml").write_text(f"network_g: {{type: SRVGGNetCompact, {sizes}}}\n")
    a, b = f"a=basicsr:{tmp_path / 'opt.yml'}:{tmp_path / 'net.pth'}", f"b=spandrel:{tmp_path / 'net.pth'}"
    report = evaluate(settings(truth, a, b, factors="4"), sheets=0)
    assert report["values"]["a"] == report["values"]["b"]
    low = read(truth.parent / "out" / "inputs" / "x4" / "gen_a.png")
    with torch.no_grad():
        y = net(torch.tensor(low[None, :, :, ::-1] / 255.0).permute(0, 3, 1, 2).float())[0].permute(1, 2, 0).numpy()
    wanted = (y[..., ::-1] * 255).clip(0, 255)
    assert np.abs(read(truth.parent / "out" / "results" / "a" / "x4" / "gen_a.png") - wanted).max() <= 0.51
    with pytest.raises(GCFSRError, match="is 32x32, the truth is 64x64"):
        evaluate(settings(truth, a, factors="8", out=str(tmp_path / "c")), sheets=0)
    fitted = evaluate(settings(truth, a + "?fit=yes", factors="8", out=str(tmp_path / "c")), sheets=0)
    assert len(fitted["values"]["a"]["x8"]["psnr"]) == 5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.pth", r"nowhere\.pth"), ("folder:nowhere", "nowhere: no such folder"), ("bicubic?s=1", "option s"),
        ("python:json:nothing", "nothing"), ("python:nomodule:f", "nomodule"), ("basicsr:a.yml:b.pth", r"a\.yml"),
        ("spandrel:{checkpoint}?range=wide", "range=wide"), ("a/b=bicubic", "a/b=bicubic"),
        ("spandrel:{checkpoint}", "not a model that spandrel"), ("{checkpoint}?s=2", "2: must lie in"),
    ],
)  # fmt: skip
def test_a_wrong_specification_is_one_clear_line(spec: str, message: str, checkpoint: Path) -> None:
    with pytest.raises(GCFSRError, match=message) as caught:
        build_method(spec.format(checkpoint=checkpoint))
    assert "\n" not in str(caught.value)


def test_factors_are_read() -> None:
    keys = [condition.key for condition in parse_factors("4, 24.5,32@48,blind")]
    assert keys == ["x4", "x24.5", "x32@48", "blind"]
    for text in ("", "x", "0.5", "4,4", "nan", "inf"):
        with pytest.raises(GCFSRError, match="--factors"):
            parse_factors(text)
    with pytest.raises(GCFSRError, match="give one of them"):
        find_protocol(None, None)
    with pytest.raises(GCFSRError, match="celeba-1024-x64"):
        find_protocol("celeba", None)


def command(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "gcfsr_inference.cli", "evaluate", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command(truth: Path, outside: dict[str, str], tmp_path: Path) -> None:
    """Evaluates, says what it lacks, compares, and answers faults with one line and status 2."""
    environment = {**outside, "GCFSR_WEIGHTS": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    out = str(tmp_path / "r")
    arguments = ["--truth", str(truth), "--factors", "4", "--method", "bicubic", "--method", "lanczos", "--out", out]
    done = command(*arguments, "--groups", "prefix", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "5 pictures compared, 0 excluded" in done.stdout
    assert "LPIPS (alex): no weights: alexnet-owt-7be5be79.pth goes to" in done.stdout
    report = json.loads(Path(out, "report.json").read_text())
    assert list(report["groups"]) == ["all", "gen", "lon"]
    page = Path(out, "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "http" not in page
    file = str(Path(out, "report.json"))
    done = command("--compare", file, file, "--pair", "bicubic", "lanczos", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "| x4 | PSNR (RGB) | bicubic | lanczos |" in done.stdout
    nowhere = [*arguments[:4], "--method", "x.pth", "--out", out]
    for wrong in (["--factors", "4"], [*arguments, "--batch", "0"], nowhere):
        done = command(*wrong, environment=environment)
        assert done.returncode == 2
        assert done.stderr.startswith("gcfsr: error: ")
        assert done.stderr.count("\n") == 1
