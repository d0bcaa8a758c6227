"""Every engine option gives the plain step, exactly or within the tolerance that is stated here."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gcfsr_arch import GCFSRError
from gcfsr_arch.training.engine import (
    BadSteps,
    Engine,
    GuardedStep,
    build_optimizer,
    ema_decay,
    micro_batches,
    update_ema,
)
from gcfsr_arch.training.options import validated
from gcfsr_arch.training.options.optimizers import OPTIMIZERS, PACKAGES, SCHEDULE_FREE, Adam
from gcfsr_arch.training.options.schema import Train
from gcfsr_arch.training.resume import load_optimizer


@pytest.fixture
def double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


Flags = Callable[[], tuple[bool, bool]]


@pytest.fixture
def tf32_flags() -> Iterator[Flags]:
    """Reads whether matrix products and convolutions may use TF32, and leaves both as they were."""

    def read() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = read()
    yield read
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def run(
    tiny: ModuleType, iterations: int = 3, n: int = 4, r1_every: int = 2, **engine: Any
) -> tuple[list[Any], dict[str, Any]]:
    """Logs and parameters after some iterations with an engine."""
    model = tiny.build(train__engine=engine, train__net_d_reg_every=r1_every)
    logs = tiny.train(model, iterations, n)
    nets = {"g": model.net_g, "d": model.net_d, "ema": model.net_g_ema}
    return logs, {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}


def assert_same(found: tuple, wanted: tuple, tolerance: float) -> None:
    for a, b in zip(found[0], wanted[0], strict=True):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance)
    for key, value in wanted[1].items():
        torch.testing.assert_close(found[1][key], value, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "engine",
    [{"accumulate": 2}, {"accumulate": 3}, {"channels_last": True}, {"checkpointing": True},
     {"clip_grad_g": 1e6, "clip_grad_d": 1e6}, {"tf32": True}],
    ids=str,
)  # fmt: skip
def test_equal_to_the_plain_step(tiny: ModuleType, engine: dict[str, Any]) -> None:
    n = 5 if engine.get("accumulate") == 3 else 4  # parts of 2, 2 and 1
    assert_same(run(tiny, n=n, **engine), run(tiny, n=n), 1e-9)


@pytest.mark.slow
def test_compiled_step(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated ahead of time as with the usual backend, without waiting for a C++ compiler."""
    monkeypatch.setattr(nn.Module, "compile", partial_method(nn.Module.compile, backend="aot_eager"))
    plain = run(tiny, iterations=1, r1_every=1)
    assert_same(run(tiny, iterations=1, r1_every=1, compile=True), plain, 1e-4)


def partial_method(method: Any, **arguments: Any) -> Any:
    return lambda self: partial(method, self, **arguments)()


@pytest.mark.parametrize(("flags", "amp"), [("fma avx512_bf16", "bf16"), ("fma avx2", None)])
def test_auto_is_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, amp: str | None
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr("gcfsr_arch.devices.CPUINFO", tmp_path / "cpuinfo")
    engine, told = Engine(amp="auto").on(torch.device("cpu"))
    assert engine.amp == amp
    assert ("bf16 on" if amp else "float32") in told
    given, told = Engine(amp="bf16").on(torch.device("cpu"))
    assert given.amp == "bf16"
    assert ("emulates" in told) == (amp is None)


@pytest.mark.parametrize(("amp", "tolerance"), [("bf16", 0.03), ("fp16", 0.005)])
def test_autocast_first_losses(tiny: ModuleType, amp: str, tolerance: float) -> None:
    (plain, *_), _ = run(tiny, iterations=1)
    (found, *_), _ = run(tiny, iterations=1, amp=amp)
    for name, value in plain.items():
        assert found[name] == pytest.approx(value, abs=tolerance * max(1, abs(value))), name
    assert found != plain


def test_fp16_finds_its_scale_and_trains(tiny: ModuleType) -> None:
    model = tiny.build(train__engine={"amp": "fp16"})
    model.step.g.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)  # overflows for sure
    before = [p.clone() for p in model.net_g.parameters()]
    tiny.train(model, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.net_g.parameters(), strict=True))
    assert model.step.g.scaler.get_scale() == 2.0**39
    assert model.step.guard.total == 0  # a search for the scale is not a fault
    model.step.g.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    tiny.train(model, 1, first=2)
    assert not torch.equal(before[0], next(model.net_g.parameters()))


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [({}, 1e-3), ({"tf32": True}, 1e-2), ({"channels_last": True}, 1e-3),
     ({"compile": True}, 1e-3), ({"checkpointing": True}, 1e-3), ({"amp": "bf16"}, 5e-2), ({"amp": "fp16"}, 5e-2)],
    ids=str,
)  # fmt: skip
def test_cuda_first_losses(tiny: ModuleType, engine: dict[str, Any], tolerance: float) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    (plain,), _ = run(tiny, iterations=1)
    (found,) = tiny.train(tiny.build(num_gpu=1, train__engine=engine), 1)
    for name, value in plain.items():
        assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def test_clipping_bounds_the_gradient(tiny: ModuleType) -> None:
    model = tiny.build(train__engine={"clip_grad_g": 1e-3}, train__optim_g={"type": "Adam", "lr": 1e-12})
    norms, original = [], model.step.g.optimizer.step

    def step(*args: Any) -> Any:
        norms.append(torch.stack([p.grad.norm() for p in model.net_g.parameters()]).norm().item())
        return original(*args)

    model.step.g.optimizer.step = step
    tiny.train(model, 2)
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-3)


def test_micro_batches_cover_the_batch() -> None:
    for size in range(1, 9):
        for accumulate in range(1, 9):
            parts = list(micro_batches(size, accumulate))
            assert [i for part, _, _ in parts for i in range(size)[part]] == list(range(size))
            assert sum(share for _, share, _ in parts) == pytest.approx(1)
            assert [last for _, _, last in parts] == [False] * (len(parts) - 1) + [True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"amp": "fp8"}, r"train\.engine\.amp: .*'fp8'"),
        ({"acumulate": 2}, r"train\.engine\.acumulate: unknown key, did you mean 'accumulate'"),
        ({"accumulate": 0}, r"train\.engine\.accumulate: .*greater than or equal to 1, got 0"),
    ],
)
def test_wrong_engine_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(GCFSRError, match=words):
        validated(Engine, options, "train.engine")


def test_optimizers_take_their_arguments_from_the_section() -> None:
    """`betas: [0, 0.99]`: torch refuses a whole number among them."""
    section = validated(Adam, {"type": "AdamW", "lr": "1e-2", "betas": [0, 0.99]}, "train.optim_g")
    optimizer = build_optimizer(section, [nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.AdamW
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (0.01, (0.0, 0.99))
    with pytest.raises(GCFSRError, match=r"train\.optim_g\.type: .*'Adm'"):
        validated(Adam, {"type": "Adm", "lr": 1}, "train.optim_g")


@pytest.mark.parametrize("tf32", [None, True, False])
def test_tf32_is_left_set_or_cleared(tf32: bool | None, tf32_flags: Flags) -> None:
    for before in (True, False):
        Engine(tf32=before).set_tf32()
        Engine(tf32=tf32).set_tf32()
        assert tf32_flags() == ((before, before) if tf32 is None else (tf32, tf32))


def test_r1_is_computed_without_tf32_backward_included(tiny: ModuleType, tf32_flags: Flags) -> None:
    """TF32 is off while R1's graph is made and while it is differentiated, and as it was everywhere else."""
    model, seen = tiny.build(train__net_d_reg_every=1, train__engine={"tf32": True}), []
    first, backward = model.step._r1, model.step.d.backward
    model.step._r1 = lambda real: (seen.append(("r1", tf32_flags())), first(real))[1]
    model.step.d.backward = lambda loss: (seen.append(("backward", tf32_flags())), backward(loss))[1]
    tiny.train(model, 1)
    off, on = (False, False), (True, True)
    assert seen == [("r1", off), ("backward", off), ("backward", on)]


def built(kind: str, params: list[nn.Parameter], **arguments: Any) -> torch.optim.Optimizer:
    """An optimiser as an option file asks for it."""
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind][0])
    return build_optimizer(validated(OPTIMIZERS[kind], {"type": kind, "lr": 0.1, **arguments}, "optim_g"), params)


def weights() -> list[nn.Parameter]:
    """A matrix, a kernel and a bias."""
    rng = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=rng)) for shape in ((4, 5), (6, 4, 3, 3), (5,))]


def loss_of(params: list[nn.Parameter], factor: float = 1.0) -> torch.Tensor:
    return torch.stack([p.square().sum() * factor for p in params]).sum()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_skipped_step_leaves_no_trace(kind: str) -> None:
    """Two optimisers take the same steps; between them one of the two is shown numbers that are not finite."""
    params = [weights(), weights()]
    step, other = (
        GuardedStep(built(kind, one, weight_decay=0.1), torch.device("cpu"), fp16=False, clip=None) for one in params
    )
    good, bad = torch.ones(()), torch.zeros(())

    def taken(step: GuardedStep, which: int, factor: float, before: torch.Tensor = good) -> float:
        loss = loss_of(params[which], factor)
        step.backward(loss)
        return step.step(loss, before).item()

    first = [p.clone() for p in params[0]]
    for factor in (1.0, -2.0, 3.0, -1.0, 2.0, -3.0, 1.0):  # RAdam's begin with steps that leave the weights alone
        assert taken(step, 0, float("inf")) == taken(step, 0, float("nan")) == 0
        assert taken(step, 0, factor, bad) == 0  # one before it in the iteration was not finite
        assert taken(step, 0, factor) == taken(other, 1, factor) == 1
        assert all(map(torch.equal, *params))
    assert not torch.equal(first[0], params[0][0])
    for mine, theirs in zip(step.optimizer.state.values(), other.optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs if isinstance(theirs[key], torch.Tensor))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimiser_goes_on_from_its_state(kind: str, tmp_path: Path) -> None:
    """Saved as training saves it and taken back by one with another learning rate, which stays."""

    def steps(params: list[nn.Parameter], optimizer: torch.optim.Optimizer, count: int) -> None:
        for number in range(count):
            loss_of(params, 1 + number).backward()
            optimizer.step()
            optimizer.zero_grad()

    params = weights()
    whole = built(kind, params)
    steps(params, whole, 12)  # beyond the first renewal of SOAP's eigenbasis
    torch.save(whole.state_dict(), tmp_path / "state")
    later = [nn.Parameter(p.detach().clone()) for p in params]
    again = built(kind, later, lr=0.05)
    load_optimizer(again, torch.load(tmp_path / "state", weights_only=True))
    for group in whole.param_groups:
        group["lr"] = 0.05
    steps(params, whole, 12)
    steps(later, again, 12)
    assert all(map(torch.equal, params, later))


def test_every_name_is_an_optimiser_of_its_package() -> None:
    """Of torch's are left out LBFGS, which needs a closure, SparseAdam, for sparse gradients, and Rprop."""
    for kind in OPTIMIZERS.keys() - PACKAGES.keys():
        assert issubclass(getattr(torch.optim, kind), torch.optim.Optimizer)
    assert {"Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam"} <= OPTIMIZERS.keys()
    assert OPTIMIZERS.keys().isdisjoint({"LBFGS", "SparseAdam", "Rprop"})


@pytest.mark.parametrize("kind", SCHEDULE_FREE)
def test_the_average_of_a_schedule_free_run_is_the_packages(tiny: ModuleType, kind: str) -> None:
    pytest.importorskip("schedulefree")
    options = {"type": kind, "lr": 0.01}
    model = tiny.build(train__optim_g=options, train__ema_decay=None)
    tiny.train(model, 8)
    model.step.g.optimizer.eval()  # puts the average into the parameters
    pairs = list(zip(model.net_g_ema.parameters(), model.net_g.parameters(), strict=True))
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs)
    model.step.g.optimizer.train()
    assert any(not torch.equal(mine, theirs) for mine, theirs in pairs)


def test_bad_steps_in_a_row_stop_and_name_the_checkpoint() -> None:
    guard = BadSteps(3)
    assert "1 in a row, 3 stop" in guard.bad(7, "generator's l_g_pix nan", None)
    guard.good()
    guard.bad(9, "x", None)
    guard.bad(10, "x", None)
    with pytest.raises(GCFSRError, match=r"3 steps in a row up to iteration 11 .* checkpoint is run/8\.state"):
        guard.bad(11, "x", "run/8.state")


def test_half_life_is_stylegan2s_decay() -> None:
    def decay(global_batch: int, seen: int, **options: float) -> float:
        return ema_decay(Train(total_iter=1, optim_g={"type": "Adam", "lr": 1}, **options), global_batch, seen)

    assert decay(32, 0, ema_half_life=10000) == pytest.approx(0.5 ** (32 / 10000))
    assert decay(8, 0, ema_half_life=10000) ** 4 == pytest.approx(0.5 ** (32 / 10000))
    assert decay(8, 0, ema_decay=0.999) == 0.999
    early, late = (decay(8, seen, ema_half_life=1000, ema_rampup=0.05) for seen in (80, 10**6))
    assert early == pytest.approx(0.5 ** (8 / 4))
    assert late == pytest.approx(0.5 ** (8 / 1000))


def test_ema_of_parameters_and_copy_of_buffers() -> None:
    net, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    with torch.no_grad():
        net.weight.fill_(5.0)
        net.running_mean.fill_(7.0)
    before = [x.clone() for x in average.state_dict().values()]
    update_ema(average, net, 0.75, torch.zeros(()))
    assert all(map(torch.equal, before, average.state_dict().values()))
    update_ema(average, net, 0.75, torch.ones(()))
    assert torch.equal(average.weight, torch.full((3,), 0.75 * 1 + 0.25 * 5))
    assert torch.equal(average.running_mean, net.running_mean)
