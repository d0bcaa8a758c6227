"""Option files as files: reading, forcing, the JSON schema, `gcfsr check-options`."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.options import check, check_file, json_schema, reference
from gcfsr_arch.training.options.names import known_keys
from gcfsr_inference import cli


def test_a_released_option_file_is_accepted_and_unused_keys_are_reported(good: dict[str, Any]) -> None:
    options = good
    options["model_type"] = "GCFSR_Model"
    options["network_g"].pop("variant")
    options["network_d"]["type"] = "StyleGAN2Discriminator_no_std"
    options["datasets"]["train"] = {
        "name": "FFHQ", "type": "FFHQ_control_Dataset", "dataroot_gt": "x", "io_backend": {"type": "disk"},
        "downsample_list": [64, 32, 4], "cond_norm": 64.0, "use_hflip": True, "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5], "use_shuffle": True, "num_worker_per_gpu": 6, "batch_size_per_gpu": 3,
        "dataset_enlarge_ratio": 100, "prefetch_mode": None,
    }  # fmt: skip
    options["train"] |= {"path_batch_shrink": 2, "path_reg_weight": 2, "mixing_prob": 0.9, "net_g_reg_every": 4}
    report = check(options)
    assert report.faults == []
    assert {"train.path_reg_weight", "train.mixing_prob", "datasets.train.use_shuffle"} <= {
        p for p, _ in report.ignored
    }


def test_a_file_is_read_and_forced_as_basicsr_does(good_text: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yml"
    path.write_text(good_text)
    report = check_file(
        path, ["train:total_iter=7", "train:ema_decay=9e-1", "datasets:train:factors=[8, 16]", "name=x"]
    )
    assert report.faults == []
    assert report.options["train"]["total_iter"] == 7
    assert report.options["train"]["ema_decay"] == 0.9
    assert report.options["datasets"]["train"]["factors"] == [8, 16]
    report = check_file(path, ["train:totl_iter=7", "no:such:block=1", "a=b=c", "nothing"])
    assert len(report.faults) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [1", "is not valid YAML"),
        ("- a", "holds no options"),
        ("", "is empty"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, r"yml: No such file"),
        ("a: " + "[" * 5000, "is not valid YAML"),
        ("a: !!timestamp x", "is not valid YAML"),
        ("a: !!float x", "is not valid YAML"),
    ],
)
def test_unreadable_option_files(tmp_path: Path, content: str | bytes | None, words: str) -> None:
    path = tmp_path / "x.yml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GCFSRError, match=words) as caught:
        check_file(path)
    assert str(path) in str(caught.value)


def test_duplicated_keys_are_named_beside_other_faults(tmp_path: Path, good_text: str) -> None:
    path = tmp_path / "x.yml"
    path.write_text(good_text.replace("total_iter:", "totl_iter:") + "\nnum_gpu: 0\n")
    faults = dict(check_file(path).faults)
    assert "is duplicated" in faults["num_gpu"]
    assert "did you mean 'total_iter'?" in faults["train.totl_iter"]


def nested(depth: int) -> str:
    return "a: " + "[" * depth + "]" * depth


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    "content", [nested(5000), BOMB, "a: &a [*a]", "".join(f"key{n}: 1\n" for n in range(60_000))], ids=len
)
def test_a_hostile_file_ends_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yml"
    path.write_text(content)
    with pytest.raises(GCFSRError, match=r"x\.yml: is (too large|not valid YAML)") as caught:
        check_file(path)
    assert "\n" not in str(caught.value)


def test_the_option_files_of_the_package_are_valid(root: Path) -> None:
    for path in sorted((root / "options").glob("*.yml")):
        report = check_file(path)
        assert report.faults == [], path.name
        assert report.ignored == [], path.name
        plain = json.loads(json.dumps(report.options))
        jsonschema.Draft202012Validator(json.loads(json_schema())).validate(plain)


def test_the_reference_is_current_and_names_every_key(root: Path) -> None:
    written = (root / "docs/options.md").read_text()
    assert written == reference(), "run `gcfsr check-options --reference > docs/options.md`"
    for place, keys in known_keys().items():
        assert all(f"| `{key}` | " in written for key in keys if "other" not in place), place
    assert all(line.count("|") == 4 for line in written.splitlines() if line.startswith("| `"))


def test_json_schema_is_current_and_agrees(good: dict[str, Any], root: Path) -> None:
    written = (root / "docs/options.schema.json").read_text()
    assert written == json_schema(), "run `gcfsr check-options --schema > docs/options.schema.json`"
    validator = jsonschema.Draft202012Validator(json.loads(written))
    options = check(good).options
    validator.validate(options)
    options["train"]["totl_iter"] = 3
    assert not validator.is_valid(options)


def test_command(good_text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.yml"
    path.write_text(good_text)
    assert cli.main(["check-options", str(path), "--force_yml", "train:total_iter=7"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert resolved["train"]["total_iter"] == 7
    assert resolved["network_g"]["num_style_feat"] == 512
    assert check(resolved).faults == []
    path.write_text(good_text.replace("total_iter", "totl_iter").replace("out_size: 64}", "out_size: 65}"))
    assert cli.main(["check-options", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"gcfsr: error: {path}: ") for line in lines)
    assert cli.main(["check-options", str(tmp_path / "none.yml")]) == 2
    assert cli.main(["check-options"]) == 2
    assert cli.main(["check-options", "--schema"]) == 0
