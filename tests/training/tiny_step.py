"""A tiny GCFSRModel for tests of the step; run as a program it is one rank of several.

python tiny_step.py OUT RANK WORLD RENDEZVOUS ITERATIONS float32|float64
"""

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

SIZE, MAX_FACTOR = 32, 32
OPTIONS: dict[str, Any] = {
    "name": "tiny", "num_gpu": 0, "dist": False, "rank": 0, "world_size": 1, "is_train": True, "path": {}, "val": {},
    "datasets": {}, "model_type": "GCFSRModel",
    "network_g": {"type": "GCFSR", "variant": "paper", "out_size": SIZE, "num_style_feat": 32, "narrow": 1 / 16},
    "network_d": {"type": "GCFSRDiscriminator", "out_size": SIZE, "narrow": 1 / 16},
    "train": {
        "total_iter": 100, "noise": "zero", "ema_decay": 0.5,
        "optim_g": {"type": "Adam", "lr": 2e-3, "betas": [0.0, 0.99]},
        "optim_d": {"type": "Adam", "lr": 2e-3, "betas": [0.0, 0.99]},
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0},
        "ssim_opt": {"type": "SSIMLoss", "loss_weight": 0.1},
        "consistency_opt": {"type": "ConsistencyLoss", "loss_weight": 0.5},
        "gan_opt": {"type": "GANLoss", "gan_type": "wgan_softplus", "loss_weight": 0.01, "scale_d": True},
        "r1_reg_weight": 0.1, "net_d_reg_every": 2,
    },
}  # fmt: skip


def options(**changes: Any) -> dict[str, Any]:
    """The options with `block__key=value` changes; None removes."""
    made = deepcopy(OPTIONS)
    for path, value in changes.items():
        *blocks, last = path.split("__")
        place = made
        for block in blocks:
            place = place.setdefault(block, {})
        place.pop(last, None) if value is None else place.update({last: value})
    return made


def build(seed: int = 0, **changes: Any) -> Any:
    """A model from seeded parameters."""
    import gcfsr_arch.register  # noqa: F401 - registers
    from gcfsr_arch.training.model import GCFSRModel

    torch.manual_seed(seed)
    return GCFSRModel(options(**changes))


def batch(n: int = 4, seed: int = 0) -> dict[str, Any]:
    """Random images and factors."""
    rng = torch.Generator().manual_seed(seed)
    gt = torch.rand(n, 3, SIZE, SIZE, generator=rng) * 2 - 1
    lq = gt + 0.1 * torch.randn(gt.shape, generator=rng)
    factor = torch.tensor([4.0, 8.0, 16.0, 32.0]).repeat(n // 4 + 1)[:n]
    return {"lq": lq, "gt": gt, "factor": factor, "s": factor / MAX_FACTOR}


def train(
    model: Any, iterations: int, n: int = 4, chosen: slice = slice(None), first: int = 1
) -> list[dict[str, float]]:
    """Steps through batches 1, 2, ...; returns the logs."""
    logs = []
    for iteration in range(first, first + iterations):
        model.feed_data({key: value[chosen] for key, value in batch(n, seed=iteration).items()})
        model.optimize_parameters(iteration)
        logs.append(dict(model.get_current_log()))
    return logs


def record_gradients(step: Any) -> list[dict[int, torch.Tensor]]:
    """Keeps the gradients of every step of a GuardedStep, by parameter number."""
    kept, original = [], step.step

    def recording(loss: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        kept.append({i: p.grad.clone() for i, p in enumerate(step.params) if p.grad is not None})
        return original(loss, before)

    step.step = recording
    return kept


class Faces(Dataset):
    """Five validation images."""

    def __init__(self) -> None:
        self.opt = {"name": "five"}

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {key: value[0] for key, value in batch(1, seed=100 + index).items()}
        return item | {"lq_path": f"{index}.png"}


def sample_noise(model: Any, chosen: slice, n: int) -> None:
    """Gives every sample a noise of its own, the same on any number of ranks."""
    shapes, rng = model.get_bare_model(model.net_g).noise_shapes(n), torch.Generator().manual_seed(5)
    model.step.draw_noise = lambda _: [torch.randn(shape, generator=rng)[chosen] for shape in shapes]


def rank_main(out: str, rank: int, world: int, rendezvous: str, iterations: int, dtype: str) -> None:
    """Trains on this rank's part of each batch of four and saves what rank 0 saw."""
    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    folder = Path(out).with_suffix(".run")
    folder.mkdir(exist_ok=True)
    paths = {"experiments_root": str(folder), "visualization": str(folder)}
    ranks = {"dist": world > 1, "rank": rank, "world_size": world, "train__engine": {"accumulate": world}}
    model = build(**ranks, val__metrics=METRICS, val__grid=2, path=paths)
    model.validation(DataLoader(Faces()), 0, None)
    metrics, share = dict(model.metric_results), 4 // world
    chosen = slice(rank * share, (rank + 1) * share)
    sample_noise(model, chosen, 4)
    gradients = record_gradients(model.step.g), record_gradients(model.step.d)
    logs = train(model, iterations, chosen=chosen)
    networks = {"g": model.net_g, "ema": model.net_g_ema, "d": model.net_d}
    states = {name: dict(model.get_bare_model(net).state_dict()) for name, net in networks.items()}
    if rank == 0:
        first = {"g": gradients[0][0], "d": gradients[1][0]}
        torch.save({"logs": logs, "states": states, "gradients": first, "metrics": metrics}, out)


METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 0},
    "ssim": {"type": "calculate_ssim", "crop_border": 0},
    "niqe": {"type": "calculate_niqe", "crop_border": 0},
}

if __name__ == "__main__":
    out, rank, world, rendezvous, iterations, dtype = sys.argv[1:]
    rank_main(out, int(rank), int(world), rendezvous, int(iterations), dtype)
