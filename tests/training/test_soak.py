"""Real SIGKILLs at random moments: a killed and resumed run ends bit for bit as the one that was never stopped."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.soak, pytest.mark.slow]
KILLS = 24


def leaves(tree: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dicts and lists with its place."""
    if isinstance(tree, dict | list | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in pairs:
            yield from leaves(value, f"{place}/{key}")
    else:
        yield place, tree


def differences(run: Path, reference: Path, every: int = 3) -> list[str]:
    """What is not bit for bit the same in two runs' folders: checkpoints `every` iterations, logged losses, metrics."""
    found = []
    files = [*sorted(reference.glob("training_states/*.state")), *sorted(reference.glob("models/*.pth"))]
    chosen = [path for path in files if int(re.sub(r"\D", "", path.name) or 0) % every == 0]
    assert len(chosen) > 6
    for path in chosen:
        other = run / path.relative_to(reference)
        if not other.exists():
            found.append(f"{other} is missing")
            continue
        ours, theirs = (dict(leaves(torch.load(file, weights_only=True))) for file in (other, path))
        found += [f"{path.name}{key}" for key in ours.keys() ^ theirs.keys()]
        found += [f"{path.name}{key}" for key in ours.keys() & theirs.keys() if not same(ours[key], theirs[key])]
    if (run / "metrics.jsonl").read_text() != (reference / "metrics.jsonl").read_text():
        found.append("metrics.jsonl")
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return (
            a.dtype == b.dtype and a.shape == b.shape and a.numpy(force=True).tobytes() == b.numpy(force=True).tobytes()
        )
    return a == b


def reference_and_folder(runs: Any, file: str) -> Path:
    """Runs `file` without a stop, moves its folder away, and returns it."""
    assert runs.run(file, log="reference.log") == 0, runs.text("reference.log")[-3000:]
    (runs.folder / "experiments").rename(runs.folder / "reference")
    return runs.folder / "reference" / "tiny"


def test_many_kills_leave_no_trace(runs: Any) -> None:
    """One run, blind degradation, R1, flips, noise, validation: killed again and again at random moments."""
    file = runs.options(blind=True, train__total_iter=120, val__val_freq=12)
    reference = reference_and_folder(runs, file)
    draw = random.Random(time.time_ns())
    killed = 0
    for _ in range(KILLS):
        before = runs.text().count("tiny ")
        runs.start(file, "--auto_resume")
        if draw.random() < 0.6:  # somewhere in one of the next iterations, otherwise most likely before them
            wait_for_iterations(runs, before + draw.randint(1, 5))
        time.sleep(draw.uniform(0, 0.3))
        status = runs.kill()
        assert status in (-signal.SIGKILL, 0), runs.text()[-3000:]
        killed += status != 0
    assert runs.run(file, "--auto_resume") == 0, runs.text()[-3000:]
    assert killed >= 20
    assert differences(runs.folder / "experiments/tiny", reference) == []


def wait_for_iterations(runs: Any, logged: int) -> None:
    """Waits until the log has this many iterations, or the run has ended."""
    while runs.text().count("tiny ") < logged and Path(f"/proc/{runs.pid}").exists():
        time.sleep(0.01)


@pytest.fixture(scope="module")
def reference(make_runs: Callable[[], Any]) -> Path:
    """The folder of the tiny run that was never stopped; how images are loaded makes no difference to it."""
    runs = make_runs()
    return reference_and_folder(runs, runs.options())


@pytest.mark.parametrize(
    ("iteration", "changes"),
    [
        (8, {"datasets__train__num_worker_per_gpu": 2}),
        (12, {"datasets__train__num_worker_per_gpu": 2, "datasets__train__persistent_workers": True}),
        (12, {"logger__save_checkpoint_freq": 6}),  # an epoch has 6 iterations: the newest state is its last
        (7, {"logger__save_checkpoint_freq": 6}),
        (8, {"datasets__train__prefetch_mode": "cpu", "datasets__train__num_prefetch_queue": 3}),
    ],
    ids=["two workers", "persistent workers", "end of an epoch", "begin of an epoch", "reading thread"],
)
def test_one_kill_in_each_configuration(runs: Any, reference: Path, iteration: int, changes: dict[str, Any]) -> None:
    file = runs.options(**changes)
    runs.start(file)
    runs.until(f"tiny {iteration}/20")
    assert runs.kill() == -signal.SIGKILL
    assert runs.run(file, "--auto_resume") == 0, runs.text()[-3000:]
    every = changes.get("logger__save_checkpoint_freq", 3)
    assert differences(runs.folder / "experiments/tiny", reference, every) == []


def test_killed_while_a_checkpoint_is_written(runs: Any, reference: Path) -> None:
    file = runs.options()
    run = runs.folder / "experiments/tiny"
    for folder, name in (("models", "net_g_9.pth"), ("training_states", "15.state")):
        for _ in range(10):  # the file is partial for some milliseconds, which a busy machine may miss
            runs.start(file, "--auto_resume")
            while Path(f"/proc/{runs.pid}").exists() and not (seen := list((run / folder).glob(f".{name}.*.partial"))):
                pass
            if seen:
                break
            runs.wait()
            shutil.rmtree(run)
        assert runs.kill() == -signal.SIGKILL
        assert int(re.findall(r"\d+", name)[0]) not in runs.checkpoints()
    assert runs.run(file, "--auto_resume") == 0
    assert not list(run.rglob("*.partial"))
    assert differences(run, reference) == []


def test_two_ranks_killed_and_resumed(runs: Any) -> None:
    """torchrun with two gloo processes: all killed, then stopped by SIGTERM, then a single rank killed."""
    file = runs.options()
    reference = ranks(runs, file, "reference")
    assert reference.wait() == 0, runs.text("reference.log")[-3000:]
    (runs.folder / "experiments").rename(runs.folder / "reference")

    everything = ranks(runs, file, "killed")
    runs.until("tiny 5/20", log="killed.log")
    for process in (everything.pid, *children(everything)):
        os.kill(process, signal.SIGKILL)
    everything.wait()

    stopped = ranks(runs, file, "stopped", "--auto_resume")
    runs.until("tiny 8/20", log="stopped.log")
    stopped.terminate()
    assert stopped.wait() != 0
    assert "stopped by SIGTERM after iteration" in runs.text("stopped.log")
    assert runs.checkpoints()[-1] >= 8

    one = ranks(runs, file, "one rank killed", "--auto_resume")
    runs.until("tiny 14/20", log="one rank killed.log")
    os.kill(children(one)[-1], signal.SIGKILL)
    assert one.wait() != 0

    assert ranks(runs, file, "resumed", "--auto_resume").wait() == 0, runs.text("resumed.log")[-3000:]
    assert differences(runs.folder / "experiments/tiny", runs.folder / "reference/tiny") == []


def children(process: subprocess.Popen) -> list[int]:
    """The ranks of a torchrun, each in a session of its own."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in found.stdout.split()]


def ranks(runs: Any, file: str, log: str, *arguments: str) -> subprocess.Popen:
    """Starts the stock train.py on two ranks."""
    import basicsr.train

    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [basicsr.train.__file__, "-opt", file, "--launcher", "pytorch", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(runs.folder / f"{log}.log", "w") as output:
        return subprocess.Popen(
            command, cwd=runs.folder, stdout=output, stderr=output, env=environment, start_new_session=True
        )
