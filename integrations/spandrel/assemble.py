"""Writes GCFSR into a checkout of spandrel: the descriptor, the network and the tests, in spandrel's layout.

    python integrations/spandrel/assemble.py CHECKOUT

The descriptor is `inference/backends/spandrel_arch.py` and the network is `gcfsr_arch`; only their imports change.
"""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START = ("generator", "state_dict")  # the modules of gcfsr_arch that the descriptor imports
CONFIG = "        self.config = config = GCFSRConfig(out_size, **options)"  # after it, what spandrel's tests compare


def descriptor() -> str:
    """The text of spandrel's `architectures/GCFSR/__init__.py`."""
    text = (ROOT / "inference/backends/spandrel_arch.py").read_text(encoding="utf-8")
    text = text[text.index("from spandrel import") : text.index("\n\ndef register(")]
    text = text.replace("from spandrel import", "from ...__helpers.model_descriptor import")
    return re.sub(r"from gcfsr_arch\.(\w+)", r"from .__arch.\1", text) + '\n\n__all__ = ["GCFSR", "GCFSRArch"]\n'


def modules() -> list[str]:
    """The modules of `gcfsr_arch` that those of `START` need, themselves included."""
    found, left = set(), set(START)
    while left:
        name = left.pop()
        found.add(name)
        text = (ROOT / f"gcfsr_arch/{name}.py").read_text(encoding="utf-8")
        listed = ", ".join(re.findall(r"from gcfsr_arch import (.+)", text)).split(", ")
        left |= {*re.findall(r"from gcfsr_arch\.(\w+) import", text), *filter(None, listed)} - found
    return sorted(found)


def module(name: str) -> str:
    """The text of a module of `gcfsr_arch` with relative imports."""
    text = (ROOT / f"gcfsr_arch/{name}.py").read_text(encoding="utf-8")
    text = re.sub(r"from gcfsr_arch\.(\w+)", r"from .\1", text)
    text = text.replace("from gcfsr_arch import", "from . import")
    text = text.replace(CONFIG, f"{CONFIG}\n        self.hyperparameters = config.to_dict()")
    return f"# type: ignore\n{text}"


def assemble(checkout: Path) -> Path:
    """Writes everything; returns the folder of the architecture."""
    folder = checkout / "libs/spandrel/spandrel/architectures/GCFSR"
    (folder / "__arch").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(descriptor(), encoding="utf-8")
    for name in modules():
        (folder / "__arch" / f"{name}.py").write_text(module(name), encoding="utf-8")
    shutil.copy(ROOT / "LICENSE", folder / "__arch" / "LICENSE")
    shutil.copytree(HERE / "tests", checkout / "tests", dirs_exist_ok=True)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "libs/spandrel/spandrel/architectures").is_dir():
        sys.exit("usage: assemble.py CHECKOUT, a checkout of spandrel's repository")
    print(assemble(Path(sys.argv[1])))
