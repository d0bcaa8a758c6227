"""docs/data.md: its examples run; the tables of keys are docs/options.md's, which the schema writes."""

import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset
from gcfsr_datasets.degradation.color import ToneRanges
from gcfsr_datasets.degradation.placement import PlacementRanges
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.photograph_dataset import PhotographDegradationDataset


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


def test_the_page_names_the_ranges(page: str):
    assert all(f"`{field.name}`" in page for cls in (ToneRanges, PlacementRanges) for field in fields(cls))


def test_examples_run(page: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kinds = {
        cls.__name__: cls
        for cls in (MultiFactorDegradationDataset, BlindFaceDegradationDataset, PhotographDegradationDataset)
    }
    examples = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    assert {example["type"] for example in examples} == set(kinds)
    for example in examples:
        if "paired" in example:
            example["paired"] |= {"dataroot_lq": str(folder), "dataroot_gt": str(folder)}
        dataset = kinds[example["type"]]({**example, "dataroot_gt": str(folder)})
        assert dataset[0]["lq"].shape == (3, 32, 32)

    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "0.png", "face.png")
    (code,) = blocks(page, "python")
    exec(compile(code, "docs/data.md", "exec"), {})
    assert Path("blind.png").is_file()
