"""bench-train: what option files change, and a real run of two tiny ones through the trainer."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation import bench_train as bench

SHRUNK = {"out_size": 32, "num_style_feat": 16, "narrow": 1 / 32}


@pytest.fixture
def files(root: Path, tmp_path: Path) -> list[str]:
    """Two of the ablations' files, shrunk to 32 pixels and two images a batch."""
    paths = []
    for name in ("base", "no_feature_modulation"):
        options = yaml.safe_load((root / "options" / "ablation" / f"{name}.yml").read_text())
        options["network_g"] |= SHRUNK
        options["network_d"] |= {"out_size": 32, "narrow": 1 / 32}
        for data in options["datasets"].values():
            data["out_size"] = 32
        options["datasets"]["train"]["batch_size_per_gpu"] = 2
        options["datasets"]["train"]["factor_range"] = [4, 8]
        paths.append(tmp_path / f"{name}.yml")
        paths[-1].write_text(yaml.safe_dump(options))
    return [str(path) for path in paths]


def test_every_ablation_is_valid_and_changes_only_its_key(root: Path) -> None:
    options = pytest.importorskip("gcfsr_arch.training.options")
    paths = sorted((root / "options" / "ablation").glob("*.yml"), key=lambda path: path.stem != "base")
    entries = {entry.path.stem: entry for entry in bench.read_entries([str(path) for path in paths])}
    for path in paths:
        assert not options.check_file(str(path), [], True).faults, path
    assert entries["base"].changes == ()
    assert entries["no_feature_modulation"].changes == ("network_g:feature_modulation False",)
    assert entries["no_style_modulation"].changes == ("network_g:style_modulation False",)
    assert entries["released_form"].changes == ("network_g:variant released",)
    lost = [change for change in entries["adversarial_only"].changes if change.startswith("without train:pixel_opt")]
    assert len(lost) == 3
    assert "datasets:train:factors [8]" in entries["single_x8"].changes


def test_option_files_that_cannot_be_compared_are_refused(files: list[str], tmp_path: Path) -> None:
    same = tmp_path / "same.yml"
    shutil.copy(files[0], same)
    with pytest.raises(GCFSRError, match=r"same\.yml: the name ablation_base is taken"):
        bench.read_entries([*files, str(same)])
    options = yaml.safe_load(same.read_text())
    same.write_text(yaml.safe_dump({**options, "name": "x", "network_g": {"type": "GCFSR", "out_size": 64}}))
    with pytest.raises(GCFSRError, match="compare one size"):
        bench.read_entries([files[0], str(same)])
    for text, what in (("{", "is not valid YAML"), ("name: x", "network_g of type GCFSR")):
        same.write_text(text)
        with pytest.raises(GCFSRError, match=what):
            bench.read_entries([str(same)])


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"options": 1}'])
def test_a_damaged_note_of_a_run_is_named(files: list[str], faces: Path, tmp_path: Path, damage: str) -> None:
    note = tmp_path / "bench" / "runs" / "ablation_base.json"
    note.parent.mkdir(parents=True)
    note.write_text(damage)
    with pytest.raises(GCFSRError, match=r"ablation_base\.json: (.* empty|not a note of).*; choose another --out$"):
        bench.train(bench.read_entries(files)[0], bench.Budget(1, 0, faces, faces, 1), tmp_path / "bench")


@pytest.mark.slow
def test_a_bench_runs_reports_and_does_not_train_twice(files: list[str], faces: Path, tmp_path: Path) -> None:
    pytest.importorskip("basicsr")
    out = tmp_path / "bench"
    budget = bench.Budget(2, 0, faces, faces, 1)
    report = bench.bench_train(files, budget, out, "4,8", ["psnr"], None, tell=lambda line: None)
    assert [entry["changes"] for entry in report["entries"]] == [[], ["network_g:feature_modulation False"]]
    assert {row["condition"] for row in report["comparisons"]} == {"x4", "x8"}
    text = (out / "bench.md").read_text()
    assert "Each: 2 iterations, seed 0, 1 thread(s), 8 training images" in text
    assert "| ablation_no_feature_modulation |" in text
    logged = (out / "runs" / "ablation_base" / "metrics.jsonl").read_text().splitlines()[-1]
    found = json.loads((out / "evaluation" / "report.json").read_text())["values"]["ablation_base"]["x8"]["psnr"]
    validated = json.loads(logged).get("metrics", {}).get("psnr")
    assert validated == pytest.approx(sum(found.values()) / len(found), abs=0.1)  # the trainer's own validation at 8x
    stamp = bench.network_file(bench.read_entries(files)[0], out).stat().st_mtime_ns
    again = bench.bench_train(files, budget, out, "4,8", ["psnr"], None, tell=lambda line: None)
    assert again == report
    assert bench.network_file(bench.read_entries(files)[0], out).stat().st_mtime_ns == stamp
    with pytest.raises(GCFSRError, match="another file or budget"):
        bench.bench_train(files, bench.Budget(3, 0, faces, faces, 1), out, "4", ["psnr"], None, tell=lambda line: None)
