"""What is wrong with the pictures that `gcfsr evaluate` is given: named, and kept out everywhere on request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gcfsr_arch import GCFSRError
from gcfsr_inference.cli import main
from gcfsr_inference.evaluation.evaluate import Settings, evaluate
from gcfsr_inference.evaluation.workspace import read_bgr

Asked = Callable[..., Settings]


def test_a_folder_of_results_gives_the_numbers_of_its_pictures(asked: Asked, truth: Path) -> None:
    first = evaluate(asked(truth, "bicubic"), sheets=0)
    results = truth.parent / "out" / "results" / "bicubic"
    second = evaluate(asked(truth, f"GPEN=folder:{results}", out=str(truth.parent / "b")), sheets=0)
    assert second["values"]["GPEN"] == first["values"]["bicubic"]
    alone = asked(truth, f"GPEN=folder:{results / 'x4'}", out=str(truth.parent / "c"), factors="4")
    alone = evaluate(alone, sheets=0)
    assert alone["values"]["GPEN"]["x4"] == first["values"]["bicubic"]["x4"]
    old = second["values"]["GPEN"]["x4"]["psnr"]
    cv2.imwrite(str(results / "x4" / "gen_b.png"), np.zeros((64, 64, 3), np.uint8))  # made anew elsewhere
    third = evaluate(asked(truth, f"GPEN=folder:{results}", out=str(truth.parent / "b")), sheets=0)
    changed = {name for name, value in third["values"]["GPEN"]["x4"]["psnr"].items() if value != old[name]}
    assert changed == {"gen_b"}
    with pytest.raises(GCFSRError, match="has no folder x4"):
        evaluate(asked(truth, f"folder:{results / 'x4'}", out=str(truth.parent / "d")), sheets=0)


def spoil(folder: Path, kind: str) -> str:
    """Makes one fault in a method's folder; returns what the message must name."""
    path = folder / "gen_b.png"
    if kind == "missing":
        path.unlink()
        return "gen_b: missing in the method's folder"
    if kind == "extra":
        cv2.imwrite(str(folder / "stranger.png"), np.zeros((64, 64, 3), np.uint8))
        return "1 images have no ground truth (stranger)"
    if kind == "size":
        cv2.imwrite(str(path), np.zeros((32, 64, 3), np.uint8))
        return "gen_b: is 64x32, the ground truth is 64x64"
    path.write_bytes(path.read_bytes()[:100])
    return "gen_b.png"


@pytest.mark.parametrize("kind", ["missing", "extra", "size", "truncated"])
def test_a_fault_in_a_folder_is_named_and_kept_out_everywhere(asked: Asked, kind: str, truth: Path) -> None:
    evaluate(asked(truth, "bicubic", factors="4"), sheets=0)
    folder = truth.parent / "out" / "results" / "bicubic" / "x4"
    text = spoil(folder, kind)

    def run(**options: str) -> dict[str, Any]:
        out = str(truth.parent / kind)
        return evaluate(asked(truth, "lanczos", f"A=folder:{folder}", factors="4", out=out, **options), sheets=0)

    with pytest.raises(GCFSRError) as caught:
        run()
    assert text in str(caught.value)
    assert "--on-bad exclude" in str(caught.value)
    report = run(on_bad="exclude")
    kept = 5 if kind == "extra" else 4
    assert len(report["pictures"]) == len(report["values"]["lanczos"]["x4"]["psnr"]) == kept
    assert [entry["name"] for entry in report["excluded"]] == ["stranger" if kind == "extra" else "gen_b"]
    assert "1 pictures excluded" in (truth.parent / kind / "report.md").read_text() or kind == "extra"


def test_nan_in_an_output_is_named_and_kept_out_everywhere(asked: Asked, truth: Path) -> None:
    import own_methods

    means = {path.stem: read_bgr(path).mean() for path in truth.iterdir()}
    darkest, second = sorted(means, key=means.__getitem__)[:2]
    own_methods.broken.limit = (means[darkest] + means[second]) / 2
    with pytest.raises(GCFSRError, match=f"broken x4: {darkest}: NaN or infinite"):
        evaluate(asked(truth, "bicubic", "python:own_methods:broken"), sheets=0)
    report = evaluate(asked(truth, "bicubic", "python:own_methods:broken", on_bad="exclude"), sheets=0)
    assert darkest not in report["values"]["bicubic"]["x8"]["psnr"]
    assert len(report["pictures"]) == 4
    with pytest.raises(GCFSRError, match=r"python:own_methods:raising.*KeyError.*no such\\nface"):
        evaluate(asked(truth, "python:own_methods:raising"), sheets=0)


def test_a_truth_that_changed_or_does_not_fit_is_refused(asked: Asked, truth: Path, checkpoint: Path) -> None:
    evaluate(asked(truth, "bicubic"), sheets=0)
    evaluate(asked(truth, "bicubic", limit=2), sheets=0)  # a part of it is no change
    with pytest.raises(GCFSRError, match="seed differs"):
        evaluate(asked(truth, "bicubic", seed=3), sheets=0)
    with pytest.raises(GCFSRError, match="results of bicubic of another run \\(function differs"):
        evaluate(asked(truth, "bicubic=python:own_methods:half"), sheets=0)
    cv2.imwrite(str(truth / "gen_a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(GCFSRError, match="gen_a is another image"):
        evaluate(asked(truth, "bicubic"), sheets=0)
    other = str(truth.parent / "other")
    with pytest.raises(GCFSRError, match="smaller than --out-size 128"):
        evaluate(asked(truth, "bicubic", out=other, out_size=128), sheets=0)
    with pytest.raises(GCFSRError, match="pass --out-size 64"):
        evaluate(asked(truth, f"{checkpoint}", out=other, out_size=32), sheets=0)


def test_a_report_of_no_picture_is_an_error_that_names_it(truth: Path, tmp_path: Path, capsys) -> None:
    import own_methods

    own_methods.broken.limit = 256
    options = ("--factors", "4", "--method", "python:own_methods:broken", "--metrics", "psnr", "--on-bad", "exclude")
    assert main(["evaluate", "--truth", str(truth), "--out", str(tmp_path / "r"), *options]) == 2
    assert "report.md: no image was left to compare" in capsys.readouterr().err
    assert "5 pictures excluded everywhere" in (tmp_path / "r" / "report.md").read_text()
