"""The faults of single inputs, and report.json, which follows the run."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.restore import sidecar
from gcfsr_inference.console import StreamError, say, unexpected_error

EVERY = 5.0  # seconds


class Report:
    """Collects an entry for each input.

    Args:
        write: stores the report's bytes; None where no report is wanted.
        debug: print the traceback of unexpected errors.
        on_entry: called with each entry.
    """

    def __init__(
        self,
        write: Callable[[bytes], None] | None,
        debug: bool,
        on_entry: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._write, self._debug, self._on_entry = write, debug, on_entry
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
            self._write(sidecar.dump(self._entries))

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
