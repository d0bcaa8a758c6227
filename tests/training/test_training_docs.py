"""The option blocks of docs/training.md pass the check of options."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("pydantic")

from gcfsr_arch.training.options import check

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL)


def merged(into: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    """`into` with the block's keys; a block with another type takes the place of the old one."""
    for key, value in block.items():
        old = into.get(key)
        same = isinstance(value, dict) and isinstance(old, dict) and value.get("type") == old.get("type")
        into[key] = merged(old, value) if same else value
    return into


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: text.split(":")[0])
def test_every_block_is_valid(text: str) -> None:
    block = yaml.safe_load(text)
    whole = "name" in block  # an option file, not a piece of one
    options = {} if whole else yaml.safe_load((ROOT / "options" / "train_gcfsr_x64.yml").read_text(encoding="utf-8"))
    report = check(merged(copy.deepcopy(options), block), True)
    assert report.faults == []


def test_the_page_has_its_blocks() -> None:
    assert len(BLOCKS) == 7
    assert sum(text.startswith("name:") for text in BLOCKS) == 1
