"""`gcfsr plot`: curves of several runs from their metrics.jsonl."""

from pathlib import Path

import pytest

from gcfsr_arch.training import curves
from gcfsr_inference import cli
from gcfsr_inference.commands import plot

pytest.importorskip("matplotlib")


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    """A long run and a short one."""
    for name, length in (("long", 40), ("short", 8)):
        folder = tmp_path / name
        folder.mkdir()
        for iteration in range(1, length + 1):
            losses = {"l_g_pix": 1 / iteration, "l_d_gan": float("nan") if iteration == 3 else 0.5}
            curves.append(folder, {"iter": iteration, "lr": 1e-3, "losses": losses})
            if iteration % 4 == 0:
                curves.append(folder, {"iter": iteration, "dataset": "val", "metrics": {"fid": 100 / iteration}})
        curves.append(folder, {"iter": length, "dataset": "val", "metrics": {"fid": 1.0}})  # the trainer's last one
    return tmp_path / "long", tmp_path / "short"


def test_every_curve_of_every_run(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        output = tmp_path / f"image{suffix}"
        assert cli.main(["plot", *map(str, two_runs), "-o", str(output), "--smooth", "0.5"]) == 0
        assert output.read_bytes().startswith(start)
    svg = (tmp_path / "image.svg").read_text()
    assert all(f"<!-- {word} -->" in svg for word in ("l_g_pix", "l_d_gan", "val: fid", "long", "short", "iterations"))


def test_curves_hold_what_was_written(two_runs: tuple[Path, Path]) -> None:
    rows = {"long": curves.read(two_runs[0]), "short": curves.read(two_runs[1] / "metrics.jsonl")}
    panels = plot.chosen_panels(rows, {"metric": ["fid"], "loss": None}, 0.0)
    assert panels == {
        "val: fid": {
            "long": ([4 * i for i in range(1, 11)], [100 / (4 * i) for i in range(1, 11)]),
            "short": ([4, 8], [25.0, 12.5]),
        }
    }
    losses = plot.chosen_panels(rows, {"metric": None, "loss": []}, 0.0)
    assert list(losses) == ["l_d_gan", "l_g_pix"]
    assert losses["l_d_gan"]["short"][0] == [1, 2, 4, 5, 6, 7, 8]


def test_smoothing_keeps_a_constant_and_halves_a_step() -> None:
    assert plot.smoothed(([1, 2, 3], [2.0, 2.0, 2.0]), 0.9)[1] == pytest.approx([2, 2, 2])
    assert plot.smoothed(([1, 2], [0.0, 3.0]), 0.5)[1] == pytest.approx([0, 2])
    assert plot.smoothed(([1, 2], [0.0, 3.0]), 0.0)[1] == [0, 3]


def test_runs_of_one_name_are_distinguished(tmp_path: Path) -> None:
    for place in ("a/tiny", "b/tiny"):
        (tmp_path / place).mkdir(parents=True)
    assert list(plot.labels([str(tmp_path / "a/tiny"), str(tmp_path / "b/tiny/metrics.jsonl")])) == ["a/tiny", "b/tiny"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN", "--metric", "fdi"], "no run has it; known are fid"),
        (["RUN", "--smooth", "1"], "--smooth 1.0"),
        (["RUN", "-o", "x.bmp"], ".png, .pdf or .svg"),
        (["nowhere"], "nowhere"),
        (["RUN", "RUN"], "twice"),
    ],
)
def test_what_is_wrong(
    two_runs: tuple[Path, Path], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(two_runs[0]) if word == "RUN" else word for word in arguments]
    assert cli.main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
