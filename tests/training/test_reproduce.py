"""docs/reproduce.md: every command of it is executed, on networks and images of 128 pixels."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

SIZE = 128  # instead of 1024 and 512: an input of factor 64 still has 2x2 pixels
SMALL = {"out_size": SIZE, "narrow": 1 / 16}
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reproduce")]


@pytest.fixture(scope="module")
def commands(root: Path) -> list[str]:
    page = (root / "docs" / "reproduce.md").read_text(encoding="utf-8")
    return [line for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def place(root: Path, commands: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in miniature: tools/, basicsr/, options/ of tiny networks, and the data as they are downloaded."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "tools").symlink_to(root / "tools")
    (folder / "basicsr").symlink_to(next(iter(find_spec("basicsr").submodule_search_locations)))
    (folder / "options").mkdir()
    (folder / "weights").mkdir()
    for name in {name for command in commands for name in re.findall(r"options/(\w+\.yml)", command)}:
        opt = yaml.safe_load((root / "options" / name).read_text(encoding="utf-8"))
        (folder / "options" / name).write_text(yaml.safe_dump(tiny(opt)))
    rng = np.random.default_rng(0)
    for number in range(4):
        for name in (f"ffhq/images1024x1024/00000/{number:05d}.png", f"celeba_hq/{number}.jpg"):
            (folder / "datasets" / name).parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            face = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / "datasets" / name), face)
    for name in ("celeba_hq_100", "celeba_test_3000"):
        (folder / "datasets" / f"{name}.txt").write_text("1.jpg\n3.jpg\n")
    return folder


def tiny(opt: dict[str, Any]) -> dict[str, Any]:
    """An option file with the same losses, data sets and names, but VGG's, for networks of 128 pixels and two steps."""
    for key in ("network_g", "network_d"):
        if key in opt:
            opt[key] |= SMALL
    opt["network_g"]["num_style_feat"] = 32
    for block in opt["datasets"].values():
        block["out_size"] = SIZE
        block |= {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2} if "batch_size_per_gpu" in block else {}
    if "train" in opt:
        opt["train"]["total_iter"] = opt["val"]["val_freq"] = opt["logger"]["save_checkpoint_freq"] = 2
        opt["train"].pop("perceptual_opt", None)  # VGG's weights are not part of the repository
    opt["val"]["metrics"] = {"psnr": {"type": "calculate_psnr"}}
    return opt


def in_miniature(command: str) -> list[str]:
    """The command's words for one rank, the CPU, images of 128 pixels and metrics without weights."""
    words = shlex.split(re.sub(r"(--size|--out-size) (1024|512)", rf"\1 {SIZE}", command))
    words = [{"cuda": "cpu", "fid": "psnr", "--nproc_per_node=8": "--nproc_per_node=1"}.get(w, w) for w in words]
    if words[:2] == ["gcfsr", "evaluate"]:
        words += ["--out-size", str(SIZE), "--metrics", "psnr,ssim"]
    program = {
        "gcfsr": ["-m", "gcfsr_inference.cli"],
        "torchrun": ["-m", "torch.distributed.run", "--standalone"],
        "python": [],
    }[words[0]]
    return [sys.executable, *program, *words[1:]]


@pytest.mark.timeout(3600)  # twenty programs, each of which imports torch
def test_every_command_runs_in_order(commands: list[str], place: Path, outside: dict[str, str]) -> None:
    pytest.importorskip("basicsr")
    assert len(commands) >= 18
    for command in commands:
        done = subprocess.run(in_miniature(command), cwd=place, env=outside, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    for report in ("table2", "table3", "table4"):
        assert "GCFSR" in (place / "results" / report / "report.md").read_text(encoding="utf-8")
    for figure in ("table1", "fig2", "fig5", "fig6", "fig7"):
        assert any((place / "results" / figure).iterdir()), figure


def test_the_page_covers_every_table_and_figure_with_a_command(root: Path, commands: list[str]) -> None:
    page = (root / "docs" / "reproduce.md").read_text(encoding="utf-8")
    for name in ("Table 1", "Table 2", "Table 3", "Table 4", "Fig. 1", "Fig. 2", "Fig. 5", "Fig. 6", "Fig. 7"):
        assert f"**{name}**" in page, name
    trained = {name for command in commands for name in re.findall(r"options/train_gcfsr_(\w+)\.yml", command)}
    assert trained == {"x64", "blind_512", "adv_512", "nostyle_1024"}


def test_the_computed_table_is_current(root: Path, outside: dict[str, str]) -> None:
    """What benchmarks/cost.py prints is what the page shows; memory may move a little with torch."""
    script = root / "benchmarks" / "cost.py"
    done = subprocess.run([sys.executable, str(script)], env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed, shown = table(done.stdout), table((root / "docs" / "reproduce.md").read_text(encoding="utf-8"))
    assert printed.keys() == shown.keys()
    assert len(printed) == 5
    for name, row in printed.items():
        assert [row[n] for n in (0, 3, 4)] == pytest.approx([shown[name][n] for n in (0, 3, 4)], rel=0.03), name
        assert row[2] == pytest.approx(shown[name][2], rel=0.1), name


def table(text: str) -> dict[str, list[float]]:
    """Option file: the first number of each column of its row."""
    rows = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| train_gcfsr"))
    return {name: [float(re.findall(r"[\d.]+", cell)[0]) for cell in cells] for name, *cells in rows}
