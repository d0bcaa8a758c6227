"""Figures: their numbers against the networks' own, and hand-made dials."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRError, load_generator, save_generator
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.commands import figures as command
from gcfsr_inference.figures.card import rising_share, step_ratio
from gcfsr_inference.figures.common import doubling, in_octaves, load_faces, make_low
from gcfsr_inference.figures.convergence import read_curve
from gcfsr_inference.figures.strength import best_index
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_measure.pixels import sharpness


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny generators of 32 pixels, one of 64, a blind one, and two faces."""
    root = tmp_path_factory.mktemp("figures")
    torch.manual_seed(0)
    for name, size, blind in (("a", 32, False), ("b", 32, False), ("big", 64, False), ("blind", 32, True)):
        net = GCFSR(size, num_style_feat=16, narrow=1 / 32, max_factor=16, blind=blind)
        save_generator(net, root / f"{name}.safetensors")
    rng = np.random.default_rng(0)
    (root / "faces").mkdir()
    for name in ("one", "two"):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "faces" / f"{name}.png"), cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC))
    return root


def figures(*line: str) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(line))


def test_fig6_has_the_networks_own_means(folder: Path, tmp_path: Path) -> None:
    assert figures("fig6", "--checkpoint", str(folder / "a.safetensors"), "-o", str(tmp_path)) == 0
    data = json.loads((tmp_path / "fig6.json").read_text())
    net = load_generator(folder / "a.safetensors")
    assert (data["factors"][0], data["factors"][-1]) == (4, 16)
    for index in (0, 7, -1):
        with torch.no_grad():
            sigmas = net.sigmas(data["factors"][index] / 16)
        for size, (enc, gen) in sigmas.items():
            assert data["mean_sigma"][str(size)]["enc"][index] == pytest.approx(enc.mean().item(), abs=1e-6)
            assert data["mean_sigma"][str(size)]["gen"][index] == pytest.approx(gen.mean().item(), abs=1e-6)
    for name in ("fig6_histograms.png", "fig6_means.png"):
        assert cv2.imread(str(tmp_path / name)) is not None


@pytest.mark.parametrize("call", [("fig2", "run"), ("fig6",), ("card", "-i", "face.png")])
def test_plots_name_the_package_that_they_need(call: tuple[str, ...], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GCFSRError, match=r"matplotlib is not installed; pip install 'gcfsr\[eval\]'"):
        figures(*call, "-o", str(tmp_path))


def test_fig6_turns_every_condition_of_a_network_of_several(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=16, narrow=1 / 32, min_factor=2, conditions=("factor", "noise", "jpeg")).eval()
    save_generator(net, tmp_path / "three.safetensors")
    assert figures("fig6", "--checkpoint", str(tmp_path / "three.safetensors"), "-o", str(tmp_path)) == 0
    data = json.loads((tmp_path / "fig6.json").read_text())
    jpeg = data["conditions"]["jpeg"]["16"]["gen"]
    for index in (0, 16, 32):
        with torch.no_grad():
            gen = net.sigmas({"factor": 0.25, "jpeg": data["conditions"]["settings"][index]})[16].gen
        assert jpeg[index] == pytest.approx(gen.mean().item(), abs=1e-6)
    assert jpeg[0] != pytest.approx(jpeg[-1], abs=1e-4)
    for name in ("fig6_noise.png", "fig6_jpeg.png"):
        assert cv2.imread(str(tmp_path / name)) is not None


def test_fig5_frames_the_best_setting(folder: Path, tmp_path: Path) -> None:
    line = ["-i", str(folder / "faces" / "one.png"), "--factors", "8", "--dials", "4,8,16", "-o", str(tmp_path)]
    figures("fig5", "--checkpoint", str(folder / "a.safetensors"), *line)
    row = json.loads((tmp_path / "fig5.json").read_text())["one x8"]
    assert row["best"] == row["dials"][int(np.argmax(row["PSNR (RGB)"]))]
    sheet = cv2.imread(str(tmp_path / "fig5_one.png"))
    framed = [(sheet[30, 132 * column + 1] == (0, 220, 255)).all() for column in range(5)]
    assert framed == [column == 1 + row["dials"].index(row["best"]) for column in range(5)]


def test_fig5_turns_the_dial_of_a_condition(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=16, narrow=1 / 32, min_factor=2, max_factor=16, conditions=("factor", "jpeg")).eval()
    save_generator(net, tmp_path / "two.safetensors")
    (tmp_path / "o.yml").write_text("datasets: {a: {type: PhotographDegradationDataset, jpeg_range: [20, 90]}}\n")
    checkpoint, face = str(tmp_path / "two.safetensors"), str(folder / "faces" / "one.png")
    line = ["-i", face, "--factors", "4", "--checkpoint", checkpoint, "-o", str(tmp_path)]
    with pytest.raises(GCFSRError, match="needs --blind"):
        figures("fig5", *line, "--condition", "jpeg")
    with pytest.raises(GCFSRError, match="noise: this checkpoint has no dial for it; it has factor, jpeg"):
        figures("fig5", *line, "--condition", "noise", "--blind", str(tmp_path / "o.yml"))
    figures("fig5", *line, "--condition", "jpeg", "--wear", "0.5", "--blind", str(tmp_path / "o.yml"))
    row = json.loads((tmp_path / "fig5_jpeg.json").read_text())["one x4"]
    gt = load_faces([face], 32)["one"]
    coded = cv2.imencode(".jpg", make_low(gt, 4), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    low, restorer = cv2.imdecode(coded, cv2.IMREAD_COLOR), Restorer(TorchBackend(net))
    for index in (0, 3, 6):
        restored = restorer.restore(low, s={"factor": 0.25, "jpeg": index / 6})
        assert row["PSNR (RGB)"][index] == pytest.approx(cv2.PSNR(restored, gt), abs=1e-3)
    assert len(set(row["PSNR (RGB)"])) > 1
    assert row["best"] == row["dials"][int(np.argmax(row["PSNR (RGB)"]))]
    assert cv2.imread(str(tmp_path / "fig5_one_jpeg.png")) is not None


def test_the_dial_encodes_once_and_equals_the_networks_call(folder: Path) -> None:
    net = load_generator(folder / "a.safetensors")
    gt = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    low = make_low(gt, 8)
    calls = []
    encode = net.encode
    net.encode = lambda x: calls.append(x) or encode(x)
    results = Restorer(TorchBackend(net)).restore_at(low, [4, 8, 16])
    assert len(calls) == 1
    with torch.no_grad():
        wanted = (net(calls[0], 0.5, "fixed", 0)[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5
    assert np.abs(results[1] - wanted.clip(0, 255)).max() <= 0.51


def test_card(folder: Path, tmp_path: Path) -> None:
    line = ["-i", str(folder / "faces"), "--factors", "4,16", "-o", str(tmp_path)]
    figures("card", "--checkpoint", str(folder / "a.safetensors"), *line)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["faces"] == 2
    assert set(card["factors"]) == {"4", "16"}
    row = card["factors"]["16"]
    assert row["best_dial"] == card["dials"][int(np.argmax(row["mean"]))]
    assert row["octaves_off"] == pytest.approx(np.log2(row["best_dial"] / 16))
    assert card["smoothness_worst"] >= card["smoothness"] >= 1
    assert 0 <= card["monotony"] <= 1
    assert "Monotony" in (tmp_path / "card.md").read_text()


def test_monotony_and_smoothness_by_hand() -> None:
    assert rising_share(np.array([[1, 2, 3], [1, 3, 2], [1, 1, 2], [0, 5, 6.0]])) == 0.5
    assert step_ratio(np.array([[1, 1, 1], [0, 0, 3], [0, 0, 0.0]])).tolist() == [1, 3, 1]
    flat, fine = np.full((32, 32, 3), 90, np.uint8), np.indices((32, 32)).sum(0) % 2 * 255
    assert sharpness(flat) == 0
    assert sharpness(np.dstack([fine] * 3).astype(np.uint8)) > 1000
    assert best_index([3, 1, 1, None], higher=False) == 1
    assert best_index([None], higher=True) is None
    assert doubling(4, 48) == [4, 8, 16, 32, 48]
    assert in_octaves(2, 32, 5) == [2, 4, 8, 16, 32]


def test_fig7_and_its_faults(folder: Path, tmp_path: Path) -> None:
    a, b, big = (str(folder / f"{name}.safetensors") for name in ("a", "b", "big"))
    face = ["-i", str(folder / "faces" / "two.png"), "-o", str(tmp_path)]
    figures("fig7", "--checkpoint", f"with={a}", "--checkpoint", f"without={b}", *face)
    assert cv2.imread(str(tmp_path / "fig7_two.png")).shape[0] > 3 * 192  # 16x, 8x, 4x
    with pytest.raises(GCFSRError, match="different sizes"):
        figures("fig7", "--checkpoint", a, "--checkpoint", big, *face)
    with pytest.raises(GCFSRError, match="two checkpoints"):
        figures("fig7", "--checkpoint", a, *face)
    with pytest.raises(GCFSRError, match="blind"):
        figures("fig6", "--checkpoint", str(folder / "blind.safetensors"), "-o", str(tmp_path))
    with pytest.raises(GCFSRError, match="factors are 4 to 16"):
        figures("fig5", "--checkpoint", a, "--factors", "32", *face)
    with pytest.raises(GCFSRError, match="distance between sets"):
        figures("fig5", "--checkpoint", a, "--metric", "fid", *face)


def test_table1_is_within_half_a_percent_of_the_paper(folder: Path, tmp_path: Path) -> None:
    figures("table1", "--checkpoint", str(folder / "a.safetensors"), "-o", str(tmp_path))
    rows = {row["name"]: row for row in json.loads((tmp_path / "table1.json").read_text())}
    for form in ("paper", "released"):
        assert rows[f"GCFSR 1024, {form}"]["parameters"] == pytest.approx(66.69e6, rel=0.005)
    assert rows["a"]["parameters"] == sum(p.numel() for p in load_generator(folder / "a.safetensors").parameters())
    assert "| *GLEAN (published)* | *188.29 M* |" in (tmp_path / "table1.md").read_text()


def test_fig2_reads_runs_logs_and_tables(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    rows = [{"iter": 5, "losses": {}}, {"iter": 10, "metrics": {"fid": 9.5}}, {"iter": 20, "metrics": {"fid": 7.25}}]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "train.log").write_text(
        "INFO: [gfp..][epoch:  0, iter:   5,000, lr:(1.000e-04,)] [eta: 0:01] l_g: 1.0e+00 \n"
        "INFO: Validation CelebA\n\t # psnr: 25.5000\tBest: 25.5000 @ 5000 iter\n"
        "\t # fid: 50.25\tBest: 50.25 @ 5000 iter\n"
        "INFO: [gfp..][epoch:  1, iter:  10,000, lr:(1.000e-04,)] l_g: 1.0e+00 \n"
        "\t # fid: 40.5\tBest: 40.5 @ 10000 iter\n"
    )
    (tmp_path / "gpen.csv").write_text("iteration,fid\n5000,60\n10000,55.5\n")
    assert read_curve(run, "fid") == [(10, 9.5), (20, 7.25)]
    assert read_curve(tmp_path / "train.log", "fid") == [(5000, 50.25), (10000, 40.5)]
    assert read_curve(tmp_path / "gpen.csv", "fid") == [(5000, 60), (10000, 55.5)]
    figures("fig2", f"ours={run}", f"GPEN={tmp_path / 'gpen.csv'}", "-o", str(tmp_path / "out"))
    assert set(json.loads((tmp_path / "out" / "fig2.json").read_text())["curves"]) == {"ours", "GPEN"}
    with pytest.raises(GCFSRError, match="no validation with the metric lpips"):
        read_curve(run, "lpips")
    with pytest.raises(GCFSRError, match="no such run"):
        read_curve(tmp_path / "none", "fid")
