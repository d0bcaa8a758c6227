"""`benchmarks/gpu.py`: every step of the GPU script runs in miniature on the CPU, and its file holds all results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_step_runs_in_miniature(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    pytest.importorskip("basicsr")
    words = ["--device", "cpu", "--tiny", "--minutes", "30", "--out", str(tmp_path / "gpu.json")]
    command = [sys.executable, str(root / "benchmarks" / "gpu.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found) == ["machine", "tests", "exact resume", "one rank", "inference", "training", "compiled"]
    assert found["tests"]["status"] == 0
    assert "skipped" in found["tests"]["output"]
    assert found["exact resume"] == {"status": 0, "identical": True, "largest difference": 0.0}
    assert found["one rank"] == {"status": 0, "output": ""}
    rows = found["inference"] + found["compiled"]
    assert {(row["batch"], row["precision"], row["form"]) for row in rows} == {
        (batch, name, form) for batch in (1, 8) for name in ("fp32", "tf32", "bf16") for form in ("eager", "compiled")
    }
    assert all(row["ms"] > 0 and row["images/s"] == pytest.approx(1e3 * row["batch"] / row["ms"]) for row in rows)
    assert [row["batch"] for row in found["training"]] == [1, 2]
    assert all({"images/s", "ms", "ms with R1"} <= row.keys() for row in found["training"])


LATE = """
import sys, time
sys.path.insert(0, sys.argv[1])
import gpu
from pathlib import Path

def late(plan):
    plan.deadline = 0
    return {"status": 0}

def broken(plan):
    raise RuntimeError("no kernel image")

gpu.STEPS = {"broken": broken, "late": late, "never": late}
gpu.run(gpu.Plan(gpu.torch.device("cpu"), Path("gpu.json"), time.monotonic() + 600, tiny=True))
"""


def test_a_step_that_fails_or_comes_too_late_is_recorded(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    command = [sys.executable, "-c", LATE, str(root / "benchmarks")]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["broken"] == [{"failed": "RuntimeError: no kernel image"}]
    assert found["late"] == {"status": 0}
    assert found["never"] == {"skipped": "no time left"}


FAILING = """
import sys
sys.path.insert(0, sys.argv[1])
import gpu

def capture(call):
    raise RuntimeError("capture failed")

plan = gpu.Plan(gpu.torch.device("cpu"), None, 0, tiny=True, runs=1, sizes=(32,), narrow=1 / 16)
rows = list(gpu.measured(plan, {"graph": capture, "eager": lambda call: call}))
print(gpu.text(rows))
"""


def test_a_form_that_fails_leaves_the_others(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    command = [sys.executable, "-c", FAILING, str(root / "benchmarks")]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("RuntimeError: capture failed") == done.stdout.count("eager") == 6


CAPTURED = """
import sys
sys.path.insert(0, sys.argv[1])
import gpu, torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

class NoCopies(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        for x in (*args, out):
            assert not isinstance(x, torch.Tensor) or x.device.type == "cuda", func
        return out

plan = gpu.Plan(torch.device("cuda"), None, 0, tiny=True, narrow=1 / 16)
with FakeTensorMode(), torch.no_grad():
    with torch.device("cuda"):
        net = gpu.network(plan, 32)
    for batch in (1, 8):
        call = gpu.whole_pass(net, batch, plan.device)
        with NoCopies():
            print(call().device)
"""


def test_a_captured_pass_touches_the_device_only(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    """A CUDA graph cannot be captured of copies from the host or of values that it reads."""
    command = [sys.executable, "-c", CAPTURED, str(root / "benchmarks")]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cuda:0", "cuda:0"]


def test_without_a_gpu_it_reports_that(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    command = [sys.executable, str(root / "benchmarks" / "gpu.py"), "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "gpu.py: there is no CUDA device; --device cpu --tiny tries every step\n"
    assert not (tmp_path / "gpu.json").exists()
