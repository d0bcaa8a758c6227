"""Which package may import which (CONTRIBUTING.md, Where things live), read from the import statements."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gcfsr_inference.cli import COMMANDS

NOT_NETWORKS = ("register", "train")  # the files of gcfsr_arch/ that know BasicSR
DATA = {
    "numpy",
    "scipy",
    "cv2",
    "PIL",
    "pillow_heif",
    "torch",
    "lmdb",
    "gcfsr_datasets",
    "gcfsr_arch.errors",
    "gcfsr_arch.files",
}


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Modules that a file imports; with `everywhere` also inside functions. `if TYPE_CHECKING` blocks do not count."""
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # `from package import module` counts
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += ast.iter_child_nodes(node)


def foreign(path: Path, allowed: set[str], everywhere: bool = True) -> set[str]:
    """Imports of a file that are neither the standard library nor allowed (a package allows what is below it)."""
    return {
        name
        for name in imports(path, everywhere)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(name == good or name.startswith(good + ".") for good in allowed)
    }


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def test_networks_import_only_torch(root: Path) -> None:
    paths = [path for path in (root / "gcfsr_arch").glob("*.py") if path.stem not in NOT_NETWORKS]
    ours = {f"gcfsr_arch.{path.stem}" for path in paths}
    for path in paths:
        assert not foreign(path, {"torch"} | ours | ({"safetensors"} if path.stem == "checkpoint" else set())), path


def test_data_imports_neither_basicsr_nor_networks(root: Path) -> None:
    for path in sources(root / "datasets"):
        assert not foreign(path, DATA), path


def test_metrics_import_neither_training_nor_inference(root: Path) -> None:
    """Training's validation and `gcfsr evaluate` both call them."""
    for path in sources(root / "measure"):
        ours = {name for name in imports(path) if name.startswith("gcfsr")}
        known = ("gcfsr_measure", "gcfsr_datasets", "gcfsr_arch.errors", "gcfsr_arch.checkpoint", "gcfsr_autoload")
        assert not {name for name in ours if not name.startswith(known)}, path
        at_import = {name.split(".")[0] for name in imports(path, everywhere=False)}
        assert not at_import & {"basicsr", "lpips", "torch_fidelity", "facexlib", "onnxruntime", "torchvision"}, path


def test_only_training_imports_basicsr(root: Path) -> None:
    at_home = [root / "gcfsr_arch" / "training", root / "gcfsr_arch" / "register.py", root / "gcfsr_arch" / "train.py"]
    for path in [*sources(root / "gcfsr_arch"), *sources(root / "datasets")]:
        if not any(home in (path, *path.parents) for home in at_home):
            assert not [name for name in imports(path) if name.split(".")[0] == "basicsr"], path


def test_inference_imports_training_and_basicsr_only_inside_functions(root: Path) -> None:
    for path in sources(root / "inference"):
        known = [n for n in imports(path, everywhere=False) if n.startswith(("basicsr", "gcfsr_arch.training"))]
        assert not known, path


def test_nothing_imports_inference(root: Path) -> None:
    folders = ("gcfsr_arch", "datasets", "measure")
    for path in [*(path for name in folders for path in sources(root / name)), root / "gcfsr_autoload.py"]:
        assert not [name for name in imports(path) if name.startswith("gcfsr_inference")], path


def test_nothing_imports_the_python_interface(root: Path) -> None:
    """`gcfsr` is for users; our own code imports a name from where it is defined."""
    for folder in ("gcfsr_arch", "datasets", "measure", "inference"):
        for path in sources(root / folder):
            assert not [name for name in imports(path) if name.split(".")[0] == "gcfsr"], path


def test_autoload_and_commands_import_nothing_heavy(root: Path) -> None:
    assert not foreign(root / "gcfsr_autoload.py", {"gcfsr_arch.register"})
    modules = dict(named_modules(root))
    commands = [modules[f"gcfsr_inference.commands.{name.replace('-', '_')}"] for name in COMMANDS]
    for path in [root / "inference" / "cli.py", *commands]:
        assert not foreign(
            path, {"gcfsr_arch.errors", "gcfsr_inference.commands", "gcfsr_inference.console"}, everywhere=False
        ), path


# folder of inference/: the folders that it may import; all may import the modules beside them
ROOMS = {
    "backends": (),
    "restore": ("backends",),
    "photo": ("restore",),
    "evaluation": ("restore",),
    "figures": ("evaluation", "restore"),
    "page": ("backends", "photo", "restore"),
    "commands": ("backends", "evaluation", "figures", "page", "photo", "restore"),
}


def test_folders_of_inference_import_downwards_only(root: Path) -> None:
    folders = {path.parent.name for path in (root / "inference").glob("*/__init__.py")}
    assert folders == set(ROOMS)
    for folder, allowed in ROOMS.items():
        for path in sources(root / "inference" / folder):
            others = {name.split(".")[1] for name in imports(path) if name.startswith("gcfsr_inference.")}
            assert not others & folders - {folder, *allowed}, path


def test_only_programs_change_their_process(root: Path) -> None:
    """Commands and the trainer keep freed memory; importing a module or loading a network does not."""
    programs = [root / "inference" / "commands", root / "gcfsr_arch" / "training"]
    for path in (path for _, path in named_modules(root) if not set(programs) & set(path.parents)):
        assert not [name for name in imports(path) if name == "gcfsr_arch.devices.keep_freed_memory"], path


def test_no_import_circle(root: Path) -> None:
    """Over the names that modules are imported by; imports inside functions count."""
    modules = dict(named_modules(root))
    graph = {name: {nearest(text, modules) for text in imports(path)} - {name} for name, path in modules.items()}
    while ends := {n for n in graph if not graph[n] & graph.keys() or n not in set().union(*graph.values())}:
        graph = {name: others for name, others in graph.items() if name not in ends}
    assert not graph, {name: others & graph.keys() for name, others in graph.items()}


def named_modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of ours by its import name; which folder has which is stated in setup.py."""
    statements = ast.parse((root / "setup.py").read_text(encoding="utf-8")).body
    (folders,) = (ast.literal_eval(node.value) for node in statements if isinstance(node, ast.Assign))
    for package, folder in folders.items():
        for path in sources(root / folder):
            parts = path.relative_to(root / folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), path


def nearest(name: str, modules: dict[str, Path]) -> str | None:
    """The module of ours that `from package import name` loads: the name itself, or what holds it."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import gcfsr_arch.errors", ["torch", "basicsr", "cv2"]),
        ("from gcfsr_arch import GCFSR, load_generator", ["basicsr", "cv2", "gcfsr_inference", "gcfsr_datasets"]),
        ("import gcfsr_datasets.degradation", ["basicsr", "gcfsr_inference", "gcfsr_arch.generator"]),
        ("import gcfsr", ["torch", "basicsr", "cv2", "numpy"]),
        ("from gcfsr import GCFSR, load_generator", ["basicsr", "cv2", "gcfsr_inference", "gcfsr_datasets"]),
        ("from gcfsr import Restorer", ["basicsr", "gcfsr_arch.training"]),
        ("import gcfsr_inference.cli", ["torch", "basicsr", "cv2", "numpy"]),
    ],
)
def test_import_stays_light(statement: str, absent: list[str], outside: dict[str, str], tmp_path: Path) -> None:
    code = f"{statement}; import sys; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
