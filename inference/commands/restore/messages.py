"""What `gcfsr restore` tells while it works."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gcfsr_inference.console import is_quiet
from gcfsr_inference.restore.runner import FaceRecord


def describe(name: str, number: int, record: FaceRecord, origin: str, entry: Mapping[str, Any]) -> str:
    """One line about a face: the dial, and what was measured; `entry` is the face's in the report."""
    parts = [_dial(record, origin)]
    if record.cost:
        cost = record.cost
        parts.append(
            f"locked in {cost.steps} steps (mean difference {cost.before.mean:.2f} -> {cost.after.mean:.2f}/255, "
            f"{cost.psnr_change:.1f} dB from the unlocked, sharpness {cost.sharpness_before:.0f} -> "
            f"{cost.sharpness_after:.0f})"
        )
    if record.consistency:
        found = record.consistency
        parts.append(
            f"consistency at {found.size} px: {found.psnr:.1f} dB, mean {found.mean:.2f}/255, "
            f"largest {found.largest:.1f}/255"
        )
    if "identity" in entry:
        parts.append(f"identity cosine {entry['identity']:.3f}")
    if record.largest_spread is not None:
        parts.append(f"spread up to {record.largest_spread:.1f}/255")
    return f"{name} face {number}: {'; '.join(parts)}"


def _dial(record: FaceRecord, origin: str) -> str:
    """The factor and how it came about, or the strength that was given."""
    if record.factor is not None:
        other = abs(record.factor / record.input_factor - 1) > 0.01 and origin == "auto"
        estimate = f", estimated {record.input_factor:.3g}" if other else ""  # outside what the network serves
        return f"factor {record.factor:.3g} ({origin}{estimate})"
    if record.strength is None:
        return "blind, without a dial"
    values = np.asarray(record.strength)
    where = ("", " by level", " by place")[values.ndim]
    span = f"{values.min():.3g}" if values.ndim == 0 else f"{values.min():.3g} to {values.max():.3g}"
    return f"s {span}{where} (given)"


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on standard error for several inputs at a terminal; yields the function that advances it."""
    if total < 2 or is_quiet() or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("restoring", total=total)
        yield lambda count: bar.advance(task, count)
