"""The files around the code: workflows, forms, hooks, citation, and the pages of `make docs`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import gcfsr_arch

tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


def test_workflows_call_targets_and_programs_that_exist(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    commands = [line for path in (root / ".github" / "workflows").glob("*.yml") for line in steps(path)]
    called = {target for line in commands for target in re.findall(r"\bmake ([a-z-]+)", line)}
    called |= set(re.findall(r"\bmake ([a-z-]+)", (root / ".ci" / "run").read_text(encoding="utf-8")))
    assert {"test", "demo", "docs"} <= called <= targets
    programs = {word for line in commands for word in re.findall(r"(?:\.ci|tools)/[\w.]+", line)}
    assert {".ci/run", ".ci/wheel", "tools/index_readme.py"} <= programs
    assert [word for word in sorted(programs) if not (root / word).is_file()] == []


def test_every_python_of_the_metadata_is_tested(root: Path, project: dict[str, Any]) -> None:
    jobs = yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    declared = [c.rsplit(" ", 1)[1] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert jobs["wheel"]["strategy"]["matrix"]["python"] == declared
    assert project["requires-python"] == f">={declared[0]}"


def test_the_hooks_and_make_lint_use_one_ruff(root: Path) -> None:
    hooks = yaml.safe_load((root / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    revision = next(repo["rev"] for repo in hooks if "ruff" in repo["repo"])
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert revision.startswith("v" + settings["required-version"].removeprefix(">=") + ".")


def test_forms_and_citation_are_valid(root: Path) -> None:
    for path in (root / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys(), path
        assert len({field["id"] for field in form["body"]}) == len(form["body"]), path
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert len(citation["preferred-citation"]["authors"]) == 5


def test_the_version_is_written_once(root: Path, project: dict[str, Any]) -> None:
    assert project["dynamic"] == ["version"]
    changes = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert gcfsr_arch.__version__ in changes


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    """`make docs` on a copy: every link leads somewhere, every name of the API reference is found."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    for name in ("docs", "gcfsr", "gcfsr_arch", "datasets", "measure", "inference"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(root / "mkdocs.yml", tmp_path)
    (tmp_path / "build" / "names").mkdir(parents=True)
    for name in ("datasets", "measure", "inference"):
        (tmp_path / "build" / "names" / f"gcfsr_{name}").symlink_to(tmp_path / name)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    built = tmp_path / "build" / "docs"
    restoring = (built / "api" / "restoring" / "index.html").read_text(encoding="utf-8")
    for text in ("Restorer.restore_batch", "Strength in [0, 1]", "Raises"):
        assert text.lower() in restoring.lower()
    assert "sigma" in (built / "api" / "networks" / "index.html").read_text(encoding="utf-8")
