"""Measures the structure of the package: `python tools/structure.py [COMMAND ...]`, a command of gcfsr with arguments.

Without a command: lines and files of Python outside the tests, and the largest folder. With one, for example
`restore -i face.png -o out --aligned --checkpoint gcfsr-nano`: how many of the package's files the command runs code
of, and the number of calls from one of these files to another.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOT_PACKAGE = ("tests", "tools", "benchmarks")


def python_files() -> list[Path]:
    """The Python files that git tracks, outside the tests."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines() if Path(line).parts[0] != "tests"]


def sizes() -> str:
    """Lines, files, and the folder with the most files."""
    files = python_files()
    lines = sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files)
    (folder, count), *_ = Counter(str(file.parent) for file in files).most_common(1)
    return f"{lines:,} lines of Python outside tests/ in {len(files)} files; largest folder: {folder}, {count} files"


class Calls:
    """Counts calls between files of the package while it is `sys.setprofile`'s function."""

    def __init__(self) -> None:
        self.ours = {str(ROOT / file) for file in python_files() if file.parts[0] not in NOT_PACKAGE}
        self.files: set[str] = set()
        self.across = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Counts one call; code that runs at import, decorators included, does not count."""
        name = frame.f_code.co_filename
        if event != "call" or name not in self.ours or frame.f_code.co_name == "<module>":
            return
        caller = frame.f_back
        if caller is not None and caller.f_code.co_filename in self.ours and caller.f_code.co_name != "<module>":
            self.files |= {name, caller.f_code.co_filename}
            self.across += name != caller.f_code.co_filename


def main() -> None:
    """Prints the sizes, or the calls of a command."""
    if not sys.argv[1:]:
        print(sizes())
        return
    from gcfsr_inference.cli import main as gcfsr

    calls = Calls()
    sys.setprofile(calls)
    status = gcfsr(sys.argv[1:])
    sys.setprofile(None)
    print(f"status {status}: {len(calls.files)} files, {calls.across} calls from one file to another")


if __name__ == "__main__":
    main()
