"""What `gcfsr restore` reports: the line of a face, progress, the faults of single inputs, and report.json."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.restore import sidecar
from gcfsr_inference.commands.restore.manifest import with_latest
from gcfsr_inference.console import StreamError, is_quiet, say, unexpected_error
from gcfsr_inference.restore.runner import FaceRecord

EVERY = 5.0  # seconds


class Report:
    """Collects an entry for each input.

    Args:
        write: stores the report's bytes; None where no report is wanted.
        debug: print the traceback of unexpected errors.
        former: the entries of the report that this one continues.
        on_entry: called with each entry.
    """

    def __init__(
        self,
        write: Callable[[bytes], None] | None,
        debug: bool,
        former: Sequence[dict[str, Any]] = (),
        on_entry: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._write, self._debug, self._former, self._on_entry = write, debug, former, on_entry
        self._entries: list[dict[str, Any]] = []
        self._failures: list[str] = []
        self._stored = -math.inf  # when it was written

    @contextmanager
    def collecting(self, name: str) -> Iterator[None]:
        """An exception of one input is recorded as the failure of that input."""
        try:
            yield
            return
        except (BrokenPipeError, StreamError):
            raise
        except GCFSRError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001 (the other inputs are still restored)
            text = unexpected_error(error, self._debug)
        self._failures.append(text if text.startswith(name) else f"{name}: {text}")
        self.add({"input": name, "error": text})

    def add(self, entry: dict[str, Any]) -> None:
        """Adds an entry; the file is written at most every few seconds, so that it costs little in a large run."""
        self._entries.append(entry)
        if self._on_entry is not None:
            self._on_entry(entry)
        if time.monotonic() - self._stored > EVERY:
            self.store()

    def store(self) -> None:
        """Writes the file, if a report is wanted and there is a result."""
        if self._write is not None and any("output" in entry for entry in self._entries):
            self._stored = time.monotonic()
            self._write(sidecar.dump(with_latest(self._former, self._entries)))

    def close(self, inputs: int) -> int:
        """Prints the failures; returns the exit status.

        Raises:
            GCFSRError: the only input failed.
        """
        if not self._failures:
            return 0
        if inputs == 1:
            raise GCFSRError(self._failures[0])
        say(f"gcfsr: error: {len(self._failures)} of {inputs} inputs failed:", error=True)
        for failure in self._failures:
            say(f"  {failure}", error=True)
        return 2


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
