"""What a CPU can show of training on CUDA: no host read within an iteration, and no tensor on the wrong device.

One whole iteration (feed_data, optimize_parameters, get_current_log) of every loss runs

- on the CPU, where a dispatch mode sees the operators whose result the host waits for on a GPU;
- under FakeTensorMode with tensors that claim to be on "cuda": operators refuse tensors of two devices, reading a value
  raises, and copies between host and device are seen. torch cannot differentiate there, so gradients are put in place.

Only a GPU can show: autocast("cuda") and GradScaler("cuda"), which turn themselves off without one, the order of a
pinned copy and its event, the states of CUDA's generators, and the kernels. These are the tests marked `cuda`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import squeezenet1_1

from gcfsr_arch.training.engine import Later
from gcfsr_datasets import resize

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten._unique2.default, aten.unique_consecutive.default, aten.unique_dim.default,
}  # fmt: skip


class Waits(TorchDispatchMode):
    """Counts operators for which the host waits: values that are read, and copies between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READS:
            self.counts[func._schema.name] += 1
        if func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.counts["index by a mask"] += 1
        out = func(*args, **kwargs)
        source = args[1] if func is aten.copy_.default else args[0] if func is aten._to_copy.default else out
        if isinstance(out, Tensor) and source.device.type != out.device.type:
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
            self.counts[f"{source.device.type} to {out.device.type}{', blocking' * waits}"] += 1
        return out


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: x[0].item(), "aten::_local_scalar_dense"),
        (lambda x: bool((x > 0).all()), "aten::_local_scalar_dense"),
        (lambda x: x.nonzero(), "aten::nonzero"),
        (lambda x: x[x > 0], "index by a mask"),
        (lambda x: torch.equal(x, x + 1), "aten::equal"),
    ],
)
def test_what_waits_is_counted(operation: Any, name: str) -> None:
    with Waits() as waits:
        operation(torch.ones(3))
    assert waits.counts == {name: 1}


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random SqueezeNet's state dict."""
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    return str(path)


EVERYTHING: list[dict[str, Any]] = [
    {"train__net_d_reg_every": 1},
    {"train__net_d_reg_every": 1, "train__net_d_first": True, "train__engine": {"accumulate": 2, "clip_grad_g": 1.0}},
    {"train__noise": "random", "train__ema_decay": None, "train__ema_half_life": 100, "network_d__minibatch_std": True},
    {"train__mismatch": {"prob": 0.5, "octaves": 1.0}, "train__net_d_pause": 0.9},
    {
        "train__mismatch": {"prob": 0.5, "octaves": 1.0, "gain": 0.5}, "train__r2_reg_weight": 0.1,
        "train__net_d_reg_every": 1, "train__gan_opt": {"type": "GANLoss", "relativistic": True},
    },
    {"network_g__blind": True, "network_g__variant": "released", "train__engine": {"checkpointing": True}},
    {
        "network_g__conditions": ["factor", "blur", "noise", "jpeg"], "network_g__estimator": True,
        "train__estimate_opt": {"type": "EstimateLoss"},
        "train__mismatch": {"prob": 0.5, "octaves": 1, "gain": 0.35, "dials": 0.5},
    },
    {"feature": True},
]  # fmt: skip


def with_features(changes: dict[str, Any], weights: str) -> dict[str, Any]:
    """The changes, with the feature loss and its discriminator where they are asked for."""
    if "feature" not in changes:
        return changes
    judge = {"type": "FeatureDiscriminator", "weights": weights}
    return {"network_d": judge, "train__feature_opt": {"type": "FeatureLoss", "weights": weights}}


def fed(tiny: ModuleType, iteration: int) -> dict[str, Any]:
    """A batch with everything that a data set of ours may give."""
    data = tiny.batch(seed=iteration)
    factor = [4.0, 8.0, 16.0, 32.0]  # a list, as `loaders.collate` makes it
    conditions, parts = torch.rand(4, 4), torch.zeros(4, 3, 3, 32, 32)
    everything = {"valid": torch.ones(4, 1, 32, 32), "base": data["lq"].clone(), "factor": factor}
    return data | everything | {"conditions": conditions, "contributions": parts}


@pytest.mark.parametrize("changes", EVERYTHING, ids=str)
def test_no_value_is_read_within_an_iteration(tiny: ModuleType, squeezenet: str, changes: dict[str, Any]) -> None:
    model = tiny.build(**with_features(changes, squeezenet))
    run(tiny, model, 1)  # caches are filled
    with Waits() as waits:
        for iteration in (2, 3):
            run(tiny, model, iteration)
        model.get_current_log()
    assert waits.counts == {}


# ---- a pretended CUDA device -----------------------------------------------------------------------------------------


def moved(module: nn.Module, device: Any = None, **_: Any) -> nn.Module:
    """`nn.Module.to` for fake tensors, which torch cannot exchange in place."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None and device is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(p, device=device), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None and device is not None:
                part._buffers[name] = torch.empty_like(b, device=device)
    return module


class Event:
    """torch.cuda.Event, which needs a driver."""

    def record(self) -> None:
        pass


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A pretended CUDA device; how many numbers each read of `Later` asked for."""
    counts: list[int] = []

    def gradients(loss: Tensor) -> None:
        """Every leaf of the graph gets a gradient, as `backward` gives it."""
        todo, seen = [loss.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if (leaf := getattr(node, "variable", None)) is not None:
                leaf.grad = torch.empty_like(leaf)
            todo += [following for following, _ in node.next_functions]

    def read(later: Later) -> list[float]:
        assert later.arrived is not None, "made on the CPU"
        counts.append(len(later.host))
        return [1.0] * len(later.host)

    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Tensor, "backward", gradients)
    monkeypatch.setattr(torch.autograd, "grad", lambda _, x, **__: (torch.empty_like(x) * x,))
    monkeypatch.setattr(Later, "read", read)
    resize._dense.cache_clear()  # neither real matrices here nor pretended ones afterwards
    with FakeTensorMode():
        yield counts
    resize._dense.cache_clear()


@pytest.mark.parametrize("changes", EVERYTHING, ids=str)
def test_an_iteration_on_cuda(
    tiny: ModuleType, squeezenet: str, changes: dict[str, Any], reads: list[int], request: pytest.FixtureRequest
) -> None:
    """All tensors on one device; one copy to the host and those of the batch, and nothing waits for them."""
    model = tiny.build(num_gpu=1, **with_features(changes, squeezenet))
    assert {p.device.type for net in (model.net_g, model.net_d) for p in net.parameters()} == {"cuda"}
    run(tiny, model, 2)
    with Waits() as waits:
        run(tiny, model, 4)
    copied = 4 + (model.batch.s is not None) + (model.batch.contributions is not None)
    assert waits.counts == {"cpu to cuda": copied, "cuda to cpu": 1}
    assert len(reads) == 1  # of the iteration before


def run(tiny: ModuleType, model: Any, iteration: int) -> None:
    model.feed_data(fed(tiny, iteration))
    model.optimize_parameters(iteration)


def test_a_value_that_is_read_on_cuda_fails_the_test(tiny: ModuleType, reads: list[int]) -> None:
    model = tiny.build(num_gpu=1)
    model.step.draw_noise = lambda batch: [batch.lq.new_zeros(1)] * int(batch.lq.mean().item())
    with pytest.raises(DataDependentOutputException):
        run(tiny, model, 2)


def test_a_tensor_on_the_host_fails_the_test(tiny: ModuleType, reads: list[int]) -> None:
    model = tiny.build(num_gpu=1)
    shapes = model.net_g.noise_shapes(4)
    model.step.drawn = lambda batch: replace(batch, gain=torch.ones(4), noise=[torch.zeros(s) for s in shapes])
    with pytest.raises(RuntimeError, match="on the same device"):
        run(tiny, model, 2)
