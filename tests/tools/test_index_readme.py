"""The README on a package index: no link or image is relative, and each leads to a file of the repository."""

import re
import subprocess
import sys
from pathlib import Path

URL, REF = "https://forge.example/owner/gcfsr", "v1.2.3"


def rewritten(root: Path, text: str) -> str:
    command = [sys.executable, str(root / "tools" / "index_readme.py"), URL, REF]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def test_links_become_absolute_and_nothing_else_changes(root: Path) -> None:
    before = "![a b](docs/a.png) [text](docs/b.md#part) [web](https://x.example/y) [here](#part) `f(x)[0](1 2)`\n"
    assert rewritten(root, before) == (
        f"![a b]({URL}/raw/{REF}/docs/a.png) [text]({URL}/blob/{REF}/docs/b.md#part) "
        "[web](https://x.example/y) [here](#part) `f(x)[0](1 2)`\n"
    )


def test_every_link_of_the_readme_leads_to_a_file(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", rewritten(root, readme))
    ours = [re.fullmatch(rf"{URL}/(?:raw|blob)/{REF}/([^#]+)(?:#.*)?", target) for target in targets]
    assert all(found or target.startswith(("https://", "#")) for found, target in zip(ours, targets, strict=True))
    files = [found[1] for found in ours if found]
    assert len(files) > 5
    assert [name for name in files if not (root / name).is_file()] == []


def test_wrong_arguments_end_in_one_line(root: Path) -> None:
    command = [sys.executable, str(root / "tools" / "index_readme.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: ")
