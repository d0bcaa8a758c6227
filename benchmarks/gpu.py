"""Everything that only a GPU can show, in one command: `python benchmarks/gpu.py --minutes 10 --out gpu.json`.

Needs the repository and its Python packages; nothing is downloaded, and nothing of ours has to be installed. Steps, in
the order of their use when time is short:

- the tests marked `cuda`;
- exact resume: a run, then the same run continued from its middle, compared;
- training by BasicSR's trainer in one nccl rank;
- latency (batch 1) and throughput (batch 8) in fp32, TF32 and bf16, eager and as a CUDA graph, with the share of the
  convolution peak that the multiply-adds reach;
- training images per second at the largest batch that fits, and what R1 costs;
- the same latency and throughput compiled, which takes the most time.

The JSON file is written after every measurement: what was measured stays when time is up, a step fails, or one of the
programs hangs (each has a quarter of the time). `--device cpu --tiny` runs every step in miniature.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAMES = ROOT / "build" / "names"  # links from import names to folders, where the package is not installed
for name in ("datasets", "inference", "measure", "options"):
    if not (link := NAMES / f"gcfsr_{name}").exists():
        NAMES.mkdir(parents=True, exist_ok=True)
        link.symlink_to(ROOT / name)
sys.path += [str(ROOT), str(NAMES)]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from timing import CONV_SHAPES, table  # noqa: E402
from training import R1_EVERY, Step  # noqa: E402

from gcfsr_arch import GCFSR  # noqa: E402
from inference import macs  # noqa: E402

PRECISIONS = ("fp32", "tf32", "bf16")
Call = Callable[[], object]
Row = dict[str, Any]


@dataclass
class Plan:
    """What is measured where, and the results so far."""

    device: torch.device
    out: Path
    deadline: float
    limit: float = 600.0  # seconds of one program
    tiny: bool = False
    runs: int = 20
    sizes: tuple[int, ...] = (512, 1024)
    train_sizes: tuple[int, ...] = (256, 512, 1024)
    narrow: float = 1.0
    most: int = 512  # largest batch that is tried
    results: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str, value: Any) -> None:
        """Stores a result and writes the file."""
        self.results[name] = value
        partial_file = self.out.with_name(f".{self.out.name}.part")
        partial_file.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        partial_file.replace(self.out)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()


# ---- programs -------------------------------------------------------------------------------------------------------


def program(plan: Plan, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs Python with our packages on its path, for at most its limit and the time that is left."""
    path = os.pathsep.join([str(ROOT), str(NAMES), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    limit = max(min(plan.left, plan.limit), 1)
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=limit, check=False
    )


def tests(plan: Plan) -> Row:
    """The tests marked `cuda`: passed, skipped and failed, with the end of the output of a failure."""
    done = program(plan, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests")
    return {"status": done.returncode, "output": done.stdout[-4000:]}


def trainer(plan: Plan, work: Path, *launcher: str) -> list[str]:
    """The words of a short training run on eight random faces in `work`."""
    faces, size = work / "faces", 32 if plan.tiny else 256
    faces.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(faces / f"{number}.png"), cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))
    blocks = [f"{block}:out_size={size}" for block in ("network_g", "network_d", "datasets:train", "datasets:val")]
    if plan.tiny:
        blocks += ["network_g:narrow=0.0625", "network_d:narrow=0.0625"]
    roots = [f"datasets:{phase}:dataroot_gt={faces}" for phase in ("train", "val")]
    run = ["train:total_iter=8", "logger:save_checkpoint_freq=4", "val:val_freq=8", "num_gpu=auto"]
    options = ROOT / "options" / "train_gcfsr_demo.yml"
    spread = ["--launcher", "pytorch"] if launcher else []
    command = [*launcher, "-m", "gcfsr_arch.train", "-opt", str(options), *spread, "--auto_resume"]
    return [*command, "--force_yml", *roots, *blocks, *run]


def resume(plan: Plan) -> Row:
    """Eight iterations; then the second half again from the state in the middle: are the networks the same?"""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        words, run = trainer(plan, work), work / "experiments" / "gcfsr_demo"
        ends = []
        for _ in range(2):
            done = program(plan, *words, cwd=work)
            if done.returncode:
                return {"status": done.returncode, "output": (done.stdout + done.stderr)[-2000:]}
            ends.append(torch.load(run / "models" / "net_g_8.pth", weights_only=True)["params"])
            for path in (*run.glob("models/*_8.pth"), *run.glob("models/*_latest.pth"), *run.glob("*_states/8.state")):
                path.unlink()
        largest = max((ends[0][name] - ends[1][name]).abs().max().item() for name in ends[0])
        return {"status": 0, "identical": largest == 0, "largest difference": largest}


def one_rank(plan: Plan) -> Row:
    """BasicSR's trainer under torchrun with one rank: nccl on a GPU, gloo without."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1")
        done = program(plan, *trainer(plan, Path(folder), *launcher), cwd=Path(folder))
        return {"status": done.returncode, "output": (done.stdout + done.stderr)[-2000:] if done.returncode else ""}


# ---- timing ---------------------------------------------------------------------------------------------------------


def precision(plan: Plan, name: str) -> AbstractContextManager:
    """Sets TF32 on or off and gives the autocast of a precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != "fp32"
    if name != "bf16":
        return nullcontext()
    return torch.autocast(plan.device.type, torch.bfloat16, cache_enabled=False)  # a graph must not keep casts of it


def seconds(plan: Plan, call: Call) -> float:
    """Median time of a call on the device, by its own events; on a CPU by the clock."""
    for _ in range(1 if plan.tiny else 3):
        call()
    times = []
    for _ in range(plan.runs):
        if plan.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def peak(plan: Plan) -> float:
    """FLOP/s of the fastest large 3x3 convolution in the precision that is set."""
    best = 0.0
    for channels, size in CONV_SHAPES[:1] if plan.tiny else CONV_SHAPES:
        x = torch.randn(8, channels, size, size, device=plan.device).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, device=plan.device).to(memory_format=torch.channels_last)
        flop = 2 * 9 * channels**2 * size**2 * len(x)
        best = max(best, flop / seconds(plan, lambda x=x, weight=weight: F.conv2d(x, weight, padding=1)))
    return best


def as_graph(call: Call) -> Call:
    """The call captured once in a CUDA graph and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def network(plan: Plan, size: int) -> GCFSR:
    """The released form of a size."""
    return GCFSR(size, variant="released", narrow=plan.narrow, num_style_feat=round(512 * plan.narrow)).eval()


def work(plan: Plan, size: int) -> float:
    """Multiply-adds of one image."""
    with torch.device("meta"):
        net = network(plan, size)
        return macs(net, torch.empty(1, 3, size, size), [torch.empty(shape) for shape in net.noise_shapes()])


def whole_pass(net: GCFSR, batch: int, device: torch.device) -> Call:
    """A pass whose inputs are on the device: a graph can be captured of it."""
    x = torch.rand(batch, 3, net.out_size, net.out_size, device=device) * 2 - 1
    s = torch.full((1,), 0.5, device=device)
    noise = [torch.randn(shape, device=device) for shape in net.noise_shapes(batch)]
    return lambda: net(x, s, noise=noise)


def inference(plan: Plan) -> Iterator[Row]:
    """Latency and throughput, a row for each size, batch, precision and form."""
    forms: dict[str, Callable[[Call], Call]] = {"eager": lambda call: call}
    if plan.device.type == "cuda":
        forms["CUDA graph"] = as_graph
    return measured(plan, forms)


def compiled(plan: Plan) -> Iterator[Row]:
    """The same, compiled."""
    return measured(plan, {"compiled": partial(torch.compile, backend="aot_eager" if plan.tiny else "inductor")})


def measured(plan: Plan, forms: dict[str, Callable[[Call], Call]]) -> Iterator[Row]:
    """A row for each size, batch, precision and form; one that fails has the error instead of times."""
    for size in plan.sizes:
        macs_of_one = work(plan, size)
        torch.manual_seed(0)
        net = network(plan, size).to(plan.device)
        for batch in (1, 8):
            for name in PRECISIONS:
                with torch.inference_mode(), precision(plan, name):
                    top = peak(plan)
                    for form, make in forms.items():
                        row = {"size": size, "batch": batch, "precision": name, "form": form}
                        try:
                            took = seconds(plan, make(whole_pass(net, batch, plan.device)))
                        except Exception as error:  # noqa: BLE001  the other forms are worth having
                            yield {**row, "failed": f"{type(error).__name__}: {error}"[:2000]}
                            continue
                        share = 2 * macs_of_one * batch / took / top
                        yield {**row, "ms": 1e3 * took, "images/s": batch / took, "share of the peak": share}


def training(plan: Plan) -> Iterator[Row]:
    """A row for each size and batch, doubled until memory ends: an iteration in bf16 without and with R1."""
    for size in plan.train_sizes:
        batch, step = 1, None
        while batch <= plan.most:
            del step  # before the next one is built beside it
            if plan.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                step = Step(size, narrow=plan.narrow, batch=batch, device=str(plan.device))
                for net in (step.g, step.d):
                    net.to(memory_format=torch.channels_last)
                plain, regular = (seconds(plan, partial(step.ours, r, bf16=True)) for r in (False, True))
            except torch.cuda.OutOfMemoryError:
                break
            memory = torch.cuda.max_memory_allocated() / 2**30 if plan.device.type == "cuda" else 0.0
            mean = (plain * (R1_EVERY - 1) + regular) / R1_EVERY
            yield {
                "size": size, "batch": batch, "images/s": batch / mean, "GiB": memory,
                "ms": 1e3 * plain, "ms with R1": 1e3 * regular,
            }  # fmt: skip
            batch *= 2


STEPS: dict[str, Callable[[Plan], Row | Iterator[Row]]] = {
    "tests": tests,
    "exact resume": resume,
    "one rank": one_rank,
    "inference": inference,
    "training": training,
    "compiled": compiled,
}


def run(plan: Plan) -> None:
    """Runs every step until time is up; one that fails is recorded, and the next one follows."""
    torch.backends.cudnn.benchmark = True  # every size is called many times
    name = torch.cuda.get_device_name() if plan.device.type == "cuda" else platform.processor() or "CPU"
    plan.keep("machine", {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "runs": plan.runs})
    for step, measure in STEPS.items():
        if plan.left <= 0:
            plan.keep(step, {"skipped": "no time left"})
            continue
        rows: list[Row] = []
        try:
            result = measure(plan)
            if isinstance(result, dict):
                plan.keep(step, result)
                print(f"{step}: {result}", flush=True)
                continue
            for row in result:
                rows.append(row)
                plan.keep(step, rows)
                if plan.left <= 0:
                    break
        except Exception as error:  # noqa: BLE001  the other steps are worth having
            plan.keep(step, [*rows, {"failed": f"{type(error).__name__}: {error}"[:2000]}])
        print(f"{step}:\n{text(rows)}", flush=True)


def text(rows: list[Row]) -> str:
    """A Markdown table of rows."""
    if not rows:
        return "nothing"
    heads = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = [tuple(f"{v:.3g}" if isinstance(v := row.get(k, ""), float) else str(v) for k in heads) for row in rows]
    return table([heads, *cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="time for all steps [10]")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of the results [gpu.json]")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a trial [cuda]")
    parser.add_argument("--tiny", action="store_true", help="every step in miniature")
    parser.add_argument("--runs", type=int, default=20, help="timed calls of each measurement [20]")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: there is no CUDA device; --device cpu --tiny tries every step")
    total = 60 * args.minutes
    plan = Plan(torch.device(args.device), args.out, time.monotonic() + total, total / 4, args.tiny, args.runs)
    if args.tiny:
        plan.sizes, plan.train_sizes, plan.narrow, plan.most, plan.runs = (32,), (32,), 1 / 16, 2, 1
    run(plan)


if __name__ == "__main__":
    main()
