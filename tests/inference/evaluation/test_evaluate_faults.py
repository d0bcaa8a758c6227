"""Invalid images for `gcfsr evaluate`: reported by name, and excluded everywhere on request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gcfsr_arch import GCFSRError
from gcfsr_inference.cli import main
from gcfsr_inference.evaluation.evaluate import Settings, evaluate
from gcfsr_inference.evaluation.score import load_features
from gcfsr_inference.evaluation.workspace import read_bgr

Asked = Callable[..., Settings]


def test_a_folder_of_results_gives_the_numbers_of_its_images(asked: Asked, gt: Path) -> None:
    first = evaluate(asked(gt, "bicubic"), sheets=0)
    results = gt.parent / "out" / "results" / "bicubic"
    second = evaluate(asked(gt, f"GPEN=folder:{results}", out=str(gt.parent / "b")), sheets=0)
    assert second["values"]["GPEN"] == first["values"]["bicubic"]
    alone = asked(gt, f"GPEN=folder:{results / 'x4'}", out=str(gt.parent / "c"), factors="4")
    alone = evaluate(alone, sheets=0)
    assert alone["values"]["GPEN"]["x4"] == first["values"]["bicubic"]["x4"]
    old = second["values"]["GPEN"]["x4"]["psnr"]
    cv2.imwrite(str(results / "x4" / "gen_b.png"), np.zeros((64, 64, 3), np.uint8))  # replaced by another program
    third = evaluate(asked(gt, f"GPEN=folder:{results}", out=str(gt.parent / "b")), sheets=0)
    changed = {name for name, value in third["values"]["GPEN"]["x4"]["psnr"].items() if value != old[name]}
    assert changed == {"gen_b"}
    with pytest.raises(GCFSRError, match="has no folder x4"):
        evaluate(asked(gt, f"folder:{results / 'x4'}", out=str(gt.parent / "d")), sheets=0)


def spoil(folder: Path, kind: str) -> str:
    """Makes one fault in a method's folder; returns the expected part of the message."""
    path = folder / "gen_b.png"
    if kind == "missing":
        path.unlink()
        return "gen_b: missing in the method's folder"
    if kind == "extra":
        cv2.imwrite(str(folder / "stranger.png"), np.zeros((64, 64, 3), np.uint8))
        return "1 image has no ground truth (stranger)"
    if kind == "size":
        cv2.imwrite(str(path), np.zeros((32, 64, 3), np.uint8))
        return "gen_b: is 64x32, the ground truth is 64x64"
    path.write_bytes(path.read_bytes()[:100])
    return "gen_b.png"


@pytest.mark.parametrize("kind", ["missing", "extra", "size", "truncated"])
def test_a_fault_in_a_folder_is_named_or_excluded_everywhere(asked: Asked, kind: str, gt: Path) -> None:
    evaluate(asked(gt, "bicubic", factors="4"), sheets=0)
    folder = gt.parent / "out" / "results" / "bicubic" / "x4"
    text = spoil(folder, kind)

    def run(**options: str) -> dict[str, Any]:
        out = str(gt.parent / kind)
        return evaluate(asked(gt, "lanczos", f"A=folder:{folder}", factors="4", out=out, **options), sheets=0)

    with pytest.raises(GCFSRError) as caught:
        run()
    assert text in str(caught.value)
    assert "--on-bad exclude" in str(caught.value)
    report = run(on_bad="exclude")
    kept = 5 if kind == "extra" else 4
    assert len(report["images"]) == len(report["values"]["lanczos"]["x4"]["psnr"]) == kept
    assert [entry["name"] for entry in report["excluded"]] == ["stranger" if kind == "extra" else "gen_b"]
    assert "1 image excluded" in (gt.parent / kind / "report.md").read_text() or kind == "extra"


def test_nan_in_an_output_is_named_or_excluded_everywhere(asked: Asked, gt: Path) -> None:
    import own_methods

    means = {path.stem: read_bgr(path).mean() for path in gt.iterdir()}
    darkest, second = sorted(means, key=means.__getitem__)[:2]
    own_methods.broken.limit = (means[darkest] + means[second]) / 2
    with pytest.raises(GCFSRError, match=f"broken x4: {darkest}: NaN or infinite"):
        evaluate(asked(gt, "bicubic", "python:own_methods:broken"), sheets=0)
    report = evaluate(asked(gt, "bicubic", "python:own_methods:broken", on_bad="exclude"), sheets=0)
    assert darkest not in report["values"]["bicubic"]["x8"]["psnr"]
    assert len(report["images"]) == 4
    with pytest.raises(GCFSRError, match=r"python:own_methods:raising.*KeyError.*no such\\nface"):
        evaluate(asked(gt, "python:own_methods:raising"), sheets=0)


def test_a_ground_truth_that_changed_or_does_not_fit_is_refused(asked: Asked, gt: Path, checkpoint: Path) -> None:
    evaluate(asked(gt, "bicubic"), sheets=0)
    evaluate(asked(gt, "bicubic", limit=2), sheets=0)  # a part of it is not a change
    with pytest.raises(GCFSRError, match="seed differs"):
        evaluate(asked(gt, "bicubic", seed=3), sheets=0)
    with pytest.raises(GCFSRError, match="results of bicubic of another run \\(function differs"):
        evaluate(asked(gt, "bicubic=python:own_methods:half"), sheets=0)
    cv2.imwrite(str(gt / "gen_a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(GCFSRError, match="gen_a is another image"):
        evaluate(asked(gt, "bicubic"), sheets=0)
    other = str(gt.parent / "other")
    with pytest.raises(GCFSRError, match="smaller than --out-size 128"):
        evaluate(asked(gt, "bicubic", out=other, out_size=128), sheets=0)
    small = gt.parent / "small"
    small.mkdir()
    cv2.imwrite(str(small / "a.png"), np.zeros((32, 32, 3), np.uint8))
    for number, (folder, size) in enumerate([(gt, 32), (small, None)]):
        out = gt.parent / f"unused{number}"
        with pytest.raises(GCFSRError, match="pass --out-size 64"):
            evaluate(asked(folder, "bicubic", f"{checkpoint}", out=str(out), out_size=size), sheets=0)
        assert not any(out.iterdir())  # the corrected command may use the same folder


@pytest.mark.parametrize("file", ["run.json", "images.json", "results/bicubic/method.json"])
@pytest.mark.parametrize("damage", [b"", b'{"seed": ', b"[1]", b"\xff"])
def test_a_damaged_note_is_one_line_that_names_it(gt: Path, tmp_path: Path, capsys, file: str, damage: bytes) -> None:
    def run(*more: str) -> int:
        options = ("--factors", "4", "--method", "bicubic", "--metrics", "psnr", "--limit", "2", "--sheets", "0")
        return main(["evaluate", "--gt", str(gt), "--out", str(tmp_path / "r"), *options, *more])

    path = tmp_path / "r" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert run() == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert f"{path}: {'not what `gcfsr evaluate` writes: ' if damage else 'the file is empty'}" in lines[0]
    assert lines[0].endswith("; choose another --out or pass --overwrite")
    assert path.read_bytes() == damage
    assert run("--overwrite") == 0


@pytest.mark.parametrize(
    "damage", [b"{}", b"[1]", b'{"name": "gen_a", "sha256": 1, "values": 2}', b"\xff", b"[" * 99999]
)
def test_a_damaged_line_of_values_is_scored_again(asked: Asked, gt: Path, damage: bytes) -> None:
    first = evaluate(asked(gt, "bicubic", factors="4"), sheets=0)
    path = gt.parent / "out" / "values" / "bicubic" / "x4.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([damage, *lines[1:]]))
    assert evaluate(asked(gt, "bicubic", factors="4"), sheets=0)["values"] == first["values"]


@pytest.mark.parametrize("kept", [0, 5, 60, 130, 200])
def test_damaged_features_are_one_line_that_names_the_file(tmp_path: Path, kept: int) -> None:
    path, row = tmp_path / "a.npy", np.arange(32, dtype=np.float32)
    np.save(path, row)
    assert np.array_equal(load_features(path), row)
    for damage in (b"", b"PK\x03\x04", b"\0" * 99):
        path.write_bytes((damage + path.read_bytes())[: kept + len(damage)])
        with pytest.raises(GCFSRError, match=r"a\.npy: not features of an image; remove it"):
            load_features(path)
        np.save(path, row)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"}", b"{"), (b"(32,)", b"(32;)"), (b"<f4", b"<i4"), (b"(32,)", b"(4,8)"), (b"(32,)", b"(31,)"), (b"'s", b"'\0")],
)
def test_features_with_a_damaged_header_are_one_line(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(32, dtype=np.float32))
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(GCFSRError, match=r"a\.npy: not features of an image; remove it"):
        load_features(path)


def test_an_empty_report_is_an_error_that_names_it(gt: Path, tmp_path: Path, capsys) -> None:
    import own_methods

    own_methods.broken.limit = 256
    options = ("--factors", "4", "--method", "python:own_methods:broken", "--metrics", "psnr", "--on-bad", "exclude")
    assert main(["evaluate", "--gt", str(gt), "--out", str(tmp_path / "r"), *options]) == 2
    assert "report.md: no image was left to compare" in capsys.readouterr().err
    assert "5 images excluded everywhere" in (tmp_path / "r" / "report.md").read_text()


@pytest.mark.parametrize("on_bad", ["error", "exclude"])
def test_a_full_disk_is_no_fault_of_the_ground_truth(
    asked: Asked, gt: Path, monkeypatch: pytest.MonkeyPatch, on_bad: str
) -> None:
    def full(path: Path, image: np.ndarray) -> None:
        raise GCFSRError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr("gcfsr_inference.evaluation.inputs.save_png", full)
    with pytest.raises(GCFSRError, match=r"/\w+\.png: cannot be written: No space left on device$"):
        evaluate(asked(gt, "bicubic", factors="4", on_bad=on_bad), sheets=0)
