"""Running programs outside the repository."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, outside: dict[str, str]) -> Run:
    """Runs a program in an empty folder: its arguments, then additions to the environment of `outside`."""

    def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, env={**outside, **env}, capture_output=True, text=True)

    return run
