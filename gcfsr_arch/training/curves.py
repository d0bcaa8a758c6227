"""`metrics.jsonl` in a run's folder: one JSON object per logged iteration and per validation, for `gcfsr plot`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import write_atomic

NAME = "metrics.jsonl"
Row = dict[str, Any]


def append(run: Path | str, row: Mapping[str, Any]) -> None:
    """Adds one row; numbers that are not finite become null.

    Args:
        run: the run's folder.
        row: `iter` and either `losses` and `lr`, or `dataset` and `metrics`.

    Raises:
        GCFSRError: the file cannot be written.
    """
    path = Path(run) / NAME
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(dict(row))) + "\n")
    except OSError as error:
        raise GCFSRError(f"{path}: cannot be written: {error.strerror}") from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(run: Path | str) -> list[Row]:
    """The rows of a run, in the order they were written; a line that a kill cut short is left out.

    Raises:
        GCFSRError: the folder has no metrics.jsonl.
    """
    path = Path(run) / NAME if Path(run).is_dir() else Path(run)
    if not path.is_file():
        raise GCFSRError(f"{path}: there is no such file; name the folder of a run that trained with gcfsr")
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("iter"), int):
            rows.append(row)
    return rows


def forget_after(run: Path | str, iteration: int) -> None:
    """Drops the rows after `iteration`, which a resumed run writes again."""
    path = Path(run) / NAME
    if not path.is_file():
        return
    kept = [row for row in read(run) if row["iter"] <= iteration]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
