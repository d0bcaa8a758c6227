"""The hook that `import torch` installs: it acts only for BasicSR, can be turned off, and breaks no other package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = {
    "ARCH_REGISTRY": ["GCFSR", "GCFSRDiscriminator", "GCFSR_blind", "StyleGAN2Discriminator_no_std"],
    "DATASET_REGISTRY": [
        "MultiFactorDegradationDataset",
        "BlindFaceDegradationDataset",
        "FFHQ_control_Dataset",
        "SingleImage_GT_Dataset",
    ],
    "MODEL_REGISTRY": ["GCFSRModel", "GCFSR_Model"],
    "METRIC_REGISTRY": ["calculate_lpips", "calculate_identity", "calculate_fid_gcfsr"],
}
OLD_MODULE = "torchvision.transforms.functional_tensor"


def python(code: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True)


def printed(code: str, cwd: Path, env: dict[str, str]) -> object:
    """What a fresh interpreter prints in its last line, as a Python value."""
    done = python(code, cwd, env)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def test_importing_torch_loads_only_the_hook(tmp_path: Path, outside: dict[str, str]) -> None:
    code = "import torch, sys; print(sorted(m for m in sys.modules if m.startswith(('gcfsr', 'basicsr', 'cv2'))))"
    assert printed(code, tmp_path, outside) == ["gcfsr_autoload"]


def test_importing_basicsr_registers_every_name(tmp_path: Path, outside: dict[str, str]) -> None:
    code = (
        "import basicsr, basicsr.utils.registry as r\n"
        f"print([name for registry, names in {NAMES}.items() for name in names if name not in getattr(r, registry)])"
    )
    assert printed(code, tmp_path, outside) == []


def test_registering_twice_or_first_is_harmless(tmp_path: Path, outside: dict[str, str]) -> None:
    code = (
        "import gcfsr_arch.register as door, importlib, basicsr.train, basicsr.utils.options as o\n"
        "door.register(); importlib.reload(door); door.register()\n"
        "print([f.parse_options.__module__ for f in (basicsr.train, o)])"
    )
    assert printed(code, tmp_path, outside) == ["gcfsr_arch.training.hooks.parse"] * 2


@pytest.mark.parametrize("name", ["losses.criteria", "released", "hooks", "options", "curves"])
def test_a_module_of_ours_may_import_basicsr_first(name: str, tmp_path: Path, outside: dict[str, str]) -> None:
    """BasicSR imports `register` while it is loaded, and that imports the same module."""
    code = (
        f"import torch, gcfsr_arch.training.{name} as first, sys, inspect, gcfsr_arch.register\n"
        "from basicsr.utils.registry import MODEL_REGISTRY\n"
        "ours = [v for v in vars(first).values() if getattr(v, '__module__', '').startswith('gcfsr_arch')]\n"
        "same = all(getattr(sys.modules[v.__module__], v.__name__) is v for v in ours)\n"
        "print([same, 'GCFSRModel' in MODEL_REGISTRY])"
    )
    done = python(code, tmp_path, outside)
    assert (done.stdout, done.stderr) == ("[True, True]\n", "")


def test_a_name_that_is_registered_already_is_kept(tmp_path: Path, outside: dict[str, str]) -> None:
    code = (
        "import torch, basicsr.utils.registry as r\n"
        "r.ARCH_REGISTRY._obj_map['GCFSR'] = dict\n"
        "import gcfsr_arch.register as door; door.register()\n"
        "print(r.ARCH_REGISTRY.get('GCFSR') is dict)"
    )
    assert printed(code, tmp_path, outside) is True


def test_the_environment_variable_turns_it_off(tmp_path: Path, outside: dict[str, str]) -> None:
    off = {**outside, "GCFSR_AUTOLOAD": "0"}
    code = "import torch, sys; print([type(f).__name__ for f in sys.meta_path if 'BasicSR' in type(f).__name__])"
    assert printed(code, tmp_path, off) == []
    missing = python(f"import {OLD_MODULE}", tmp_path, off).returncode != 0
    assert (python("import basicsr", tmp_path, off).returncode != 0) is missing


def test_only_basicsr_gets_the_alias(tmp_path: Path, outside: dict[str, str]) -> None:
    """Other packages detect by ImportError that torchvision has dropped the module, and still do."""
    alone = python(f"import torch, {OLD_MODULE}", tmp_path, {**outside, "GCFSR_AUTOLOAD": "0"})
    ours = python(f"import torch, {OLD_MODULE}", tmp_path, outside)
    assert ours.returncode == alone.returncode
    code = f"import basicsr, {OLD_MODULE} as old, torch; print(list(old.rgb_to_grayscale(torch.ones(3, 2, 2)).shape))"
    assert printed(code, tmp_path, outside) == [1, 2, 2]


def test_basicsr_works_when_registering_fails(tmp_path: Path, outside: dict[str, str]) -> None:
    code = "import sys; sys.modules['gcfsr_arch.register'] = None; import basicsr; print(basicsr.__version__)"
    done = python(code, tmp_path, outside)
    assert done.returncode == 0
    assert done.stderr.count("gcfsr: not registered in BasicSR") == 1


def test_a_source_tree_without_setup_gets_its_version_and_its_path(tmp_path: Path, outside: dict[str, str]) -> None:
    """A clone without setup: `basicsr/train.py` finds the package beside it, `basicsr.version` is read from VERSION."""
    package = tmp_path / "BasicSR" / "basicsr"
    package.mkdir(parents=True)
    (tmp_path / "BasicSR" / "VERSION").write_text("1.9.2\n")
    (package / "__init__.py").write_text("from .version import __version__\n")
    (package / "train.py").write_text(
        "import torch, sys\n"
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"  # where pip's BasicSR is
        "sys.meta_path[:] = [f for f in sys.meta_path if 'Editable' not in str(f)]\n"
        "import basicsr; print([basicsr.__version__, basicsr.__file__])\n"
    )
    done = subprocess.run(
        [sys.executable, str(package / "train.py")], cwd=tmp_path, env=outside, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == ["1.9.2", str(package / "__init__.py")]


@pytest.mark.parametrize("words", [["gcfsr_arch.train"], ["gcfsr_inference.cli", "train"]])
def test_training_explicitly_works_without_autoload(words: list[str], tmp_path: Path, outside: dict[str, str]) -> None:
    """Far enough to see that BasicSR was imported and our names are there."""
    (tmp_path / "wrong.yml").write_text("name: x\nmodel_type: GCFSRModel\n")
    done = subprocess.run(
        [sys.executable, "-m", *words, "-opt", "wrong.yml"],
        cwd=tmp_path,
        env={**outside, "GCFSR_AUTOLOAD": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("gcfsr: error: ")
    assert "Traceback" not in done.stderr
