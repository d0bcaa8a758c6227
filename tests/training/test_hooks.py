"""Where BasicSR is patched: one table, errors that name BasicSR's version, and other models left alone."""

import ast
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("basicsr")

import basicsr.train
from basicsr.version import __version__

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.hooks import parse, replaced, table
from gcfsr_datasets.dataset_options import FaceOptions


def test_this_basicsr_has_every_patched_name() -> None:
    for where, names in table.PATCHED.items():
        assert [name for name in names if not hasattr(import_module(where), name)] == [], where


@pytest.mark.parametrize("name", [n for n in table.PATCHED["basicsr.train"] if n != "parse_options"])
def test_a_missing_name_is_an_error_that_names_the_version(name: str) -> None:
    """In the namespace of a train.py that lacks one of the functions, as another release of BasicSR may."""
    namespace = {key: value for key, value in vars(basicsr.train).items() if key != name}
    with pytest.raises(GCFSRError, match=rf"BasicSR {__version__}: basicsr\.train has no {name}"):
        parse.hook(namespace)
    assert parse._hooked == []


def test_a_name_outside_the_table_cannot_be_patched() -> None:
    with pytest.raises(AssertionError, match="PATCHED"):
        table.patch("basicsr.train", {"get_env_info": None})


def test_replaced_gives_the_name_back() -> None:
    import basicsr.archs.vgg_arch as vgg_arch

    usual = vgg_arch.VGG_PRETRAIN_PATH
    with replaced("basicsr.archs.vgg_arch", VGG_PRETRAIN_PATH="x"):
        assert vgg_arch.VGG_PRETRAIN_PATH == "x"
    assert usual == vgg_arch.VGG_PRETRAIN_PATH


def test_the_next_run_finds_the_pipeline_unhooked() -> None:
    namespace = dict(vars(basicsr.train))
    parse.hook(namespace)
    assert namespace["build_model"] is not basicsr.train.build_model
    parse.unhook()
    assert namespace == vars(basicsr.train)


def validates_first(opt: Any, model: Any) -> None:
    """A loop with another order."""
    model.update_learning_rate(1)
    model.feed_data({})
    model.optimize_parameters(1)
    model.validation(None)
    model.save(0, 1)


def never_saves(opt: Any, model: Any) -> None:
    model.update_learning_rate(1)
    model.feed_data({})
    model.optimize_parameters(1)
    model.validation(None)


def test_every_path_of_a_data_set_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    texts = {spec.name for spec in fields(FaceOptions) if spec.type in (str, str | None)} - {"name"}
    assert texts | {"dataroot_lq"} == set(parse.DATA_PATHS)
    block: dict[str, Any] = dict.fromkeys(parse.DATA_PATHS, "~/x")
    block |= {"paired": {"dataroot_lq": "~/x", "prob": 0.5}, "extra_roots": ["~/x", "y"], "name": "~"}
    parse.data_options(block, "val", 0)
    assert {block[key] for key in parse.DATA_PATHS} == {"/elsewhere/x"}
    assert (block["paired"]["dataroot_lq"], block["extra_roots"], block["name"]) == (
        "/elsewhere/x",
        ["/elsewhere/x", "y"],
        "~",
    )


def test_the_order_of_the_loop_is_checked() -> None:
    table.check_loop(basicsr.train.train_pipeline)
    for loop in (validates_first, never_saves):
        with pytest.raises(GCFSRError, match=f"BasicSR {__version__}: .* in this order"):
            table.check_loop(loop)


def test_nothing_else_patches_basicsr(root: Path) -> None:
    """No file outside hooks/ assigns an attribute of a module of BasicSR."""
    for path in [*(root / "gcfsr_arch").rglob("*.py"), *(root / "inference").rglob("*.py")]:
        if "hooks" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {
            (alias.asname or alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if (alias.name if isinstance(node, ast.Import) else str(node.module)).startswith("basicsr")
        }
        assigned = [
            ast.unparse(target)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign | ast.AugAssign)
            for target in getattr(node, "targets", [getattr(node, "target", None)])
            for target in (target.elts if isinstance(target, ast.Tuple) else [target])
            if isinstance(target, ast.Attribute) and ast.unparse(target).split(".")[0] in modules
        ]
        assert assigned == [], path


OTHER_RELEASE = """
import sys, runpy
import basicsr.train as train
source = open(train.__file__).read().replace("load_resume_state", "find_resume_state")
open(sys.argv[1], "w").write(source)
sys.argv = [sys.argv[1], "-opt", sys.argv[2]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_release_without_a_hooked_function_stops_before_training(runs: Any) -> None:
    """A real run of a train.py whose function has another name: one line, nothing trained without exact resume."""
    script = runs.folder / "train.py"
    done = subprocess.run(
        [sys.executable, "-c", OTHER_RELEASE, str(script), runs.options()],
        cwd=runs.folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.splitlines()[-1].startswith(f"gcfsr: error: BasicSR {__version__}: basicsr.train has no load_re")
    assert not (runs.folder / "experiments" / "tiny").exists()
