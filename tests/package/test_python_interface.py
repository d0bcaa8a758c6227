"""`import gcfsr`: every name, its type for a type checker, and the message for a name that does not exist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gcfsr
import gcfsr_arch
import gcfsr_inference


def test_every_name_is_the_object_of_its_package() -> None:
    for name in set(gcfsr.__all__) - {"__version__"}:
        found = getattr(gcfsr, name)
        assert found in (getattr(package, name, None) for package in (gcfsr_arch, gcfsr_inference))
    assert dir(gcfsr) == sorted(gcfsr.__all__)
    assert gcfsr.__version__ == gcfsr_arch.__version__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Restore'"):
        gcfsr.Restore  # noqa: B018
    with pytest.raises(ImportError, match="Restore"):
        from gcfsr import Restore  # type: ignore  # noqa: F401


@pytest.mark.slow
def test_a_type_checker_sees_the_types(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    """Of a program outside the repository, with the packages where an installation puts them."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for folder in ("datasets", "inference", "measure"):
        (packages / f"gcfsr_{folder}").symlink_to(root / folder)
    for name in ("gcfsr", "gcfsr_arch"):
        (packages / name).symlink_to(root / name)
    program = tmp_path / "program.py"
    program.write_text(
        "from gcfsr import Restorer, GCFSR, load_generator, estimate_factor\n"
        "reveal_type(load_generator('x.safetensors'))\n"
        "reveal_type(Restorer.load())\n"
        "reveal_type(GCFSR(64))\n"
        "reveal_type(estimate_factor)\n"
        "import gcfsr; gcfsr.Restorer.load(3.5)\n"
    )
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"include": ["program.py"], "extraPaths": ["packages"]}))
    checker = Path(sys.executable).with_name("basedpyright")
    done = subprocess.run(
        [checker, "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path,
        env=outside,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout)["generalDiagnostics"]
    revealed = [entry["message"] for entry in said if entry["severity"] == "information"]
    assert [message.split(' is "')[1].rstrip('"') for message in revealed[:3]] == ["GCFSR", "Restorer", "GCFSR"]
    assert "-> float" in revealed[3]
    assert ["float" in entry["message"] for entry in said if entry["severity"] == "error"] == [True]
