"""GCFSRModel: what BasicSR's trainer calls; each call is delegated to one of its parts.

`step` trains, `resume` saves and resumes, `validation` measures. The loop and the loaders stay BasicSR's.
"""

from inspect import signature
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.growth import grow
from gcfsr_arch.state_dict import fit
from gcfsr_arch.training import curves
from gcfsr_arch.training import engine as eng
from gcfsr_arch.training import validation as val
from gcfsr_arch.training.options import validated
from gcfsr_arch.training.options.optimizers import SCHEDULE_FREE
from gcfsr_arch.training.options.schema import Train
from gcfsr_arch.training.resume import Content, Saver
from gcfsr_arch.training.schedules import learning_rate
from gcfsr_arch.training.step import Batch, Networks, TrainingStep, batch_on


class GCFSRModel(SRModel):
    """Trains GCFSR: L = L1 + 0.01 perceptual + 0.01 adversarial (Eq. 7), every term optional, and validates its EMA.

    Args:
        opt: BasicSR's options. The keys under `train` are explained in options/train_gcfsr_x64.yml.

    Raises:
        GCFSRError: an option that cannot work, weights that are missing or belong to another network.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() and opt.get("num_gpu") != 0 else "cpu")
        train = opt.get("train")
        self.options = None if train is None else validated(Train, train, "train")
        engine = None if self.options is None else self.options.engine
        self.engine, remark = eng.Engine(**(engine.model_dump() if engine else {})).on(device)
        self.engine.set_tf32()
        torch.backends.cudnn.benchmark = True  # every batch has the same size
        if remark:
            get_root_logger().info(remark)
        self.net_d: nn.Module | None = None
        self.net_g_ema: nn.Module | None = None
        self.saver = Saver(opt, self.content)
        val.check_metrics(opt, str(device))
        super().__init__(opt)

    # ---- building ----------------------------------------------------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to the device in the engine's format; under a launcher wraps it, on the CPU too."""
        net = self.engine.prepare(net.to(self.device), generator=hasattr(net, "encode"))
        if not self.opt["dist"]:
            return net
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        known = signature(DistributedDataParallel).parameters  # torch is about to rename the argument
        constant = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return DistributedDataParallel(net, device_ids=devices, **{constant: False})  # the buffers never change

    def print_network(self, net: nn.Module) -> None:
        """One line; the printed modules of a large network would hide everything else."""
        bare = eng.bare(net)
        get_root_logger().info(f"{type(bare).__name__}: {sum(p.numel() for p in bare.parameters()):,} parameters")

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str = "params") -> None:
        """Loads a checkpoint of ours, of BasicSR or of the released code; a wrong one is named with its key."""
        bare = eng.bare(net)
        state, config = read_state(load_path, prefer=(param_key, "params_ema", "params"))
        if not strict:
            fitting = {k: v for k, v in bare.state_dict().items() if k in state and state[k].shape == v.shape}
            if not fitting:
                raise GCFSRError(f"{load_path}: no tensor fits the network; it is a checkpoint of another one")
            bare.load_state_dict({key: state[key] for key in fitting}, strict=False)
            count = f"{len(fitting)} of {len(bare.state_dict())}"
            get_root_logger().warning(f"{load_path}: {count} tensors fit and were taken")
            return
        own = getattr(bare, "config", None)
        if config is None or own is None or (config.conditions == own.conditions and config.estimator == own.estimator):
            fit(bare, state, load_path)
            return
        small = GCFSR(**config.to_dict())
        fit(small, state, load_path)
        grow(small, bare)
        names = f"{', '.join(config.conditions)} to {', '.join(own.conditions)}"
        get_root_logger().info(f"{load_path}: grown from the conditions {names}")

    def init_training_settings(self) -> None:
        """Networks, EMA, losses, optimisers: everything that training needs and testing does not."""
        train, path = self.options, self.opt["path"]
        self.net_g.train()
        if train.gan_opt is not None:
            if not self.opt.get("network_d"):
                raise GCFSRError("network_d: train.gan_opt needs a discriminator; add it or remove train.gan_opt")
            self.net_d = self.model_to_device(build_network(self.opt["network_d"])).train()
            self.print_network(self.net_d)
            if path.get("pretrain_network_d"):
                strict, key = path.get("strict_load_d", True), path.get("param_key_d", "params")
                self.load_network(self.net_d, path["pretrain_network_d"], strict, key)
        if train.ema_decay or train.ema_half_life or train.optim_g.type in SCHEDULE_FREE:
            self.net_g_ema = build_network(self.opt["network_g"]).to(self.device).eval()
            self.net_g_ema.load_state_dict(eng.bare(self.net_g).state_dict())
            if path.get("pretrain_network_g"):
                strict = path.get("strict_load_g", True)
                self.load_network(self.net_g_ema, path["pretrain_network_g"], strict, "params_ema")
        nets = Networks(self.net_g, self.net_d, self.net_g_ema)
        warn = get_root_logger().warning
        self.step = TrainingStep(train, self.engine, nets, self.device, self.opt.get("world_size", 1), warn)
        self.optimizers = [optimizer for optimizer, _ in self.step.optimizers()]

    # ---- training ----------------------------------------------------------------------------------------------------

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Begins an iteration; the learning rates are a function of it (`schedules`), not of a checkpoint."""
        self.saver.begin_iteration(current_iter)
        for optimizer, options in self.step.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(options.lr, current_iter, self.options)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a batch of a data set."""
        self.batch = self.fed(data)

    def fed(self, data: dict[str, Any]) -> Batch:
        """A data set's batch on the device; see `batch_on`."""
        return batch_on(self.device, data, eng.bare(self.net_g), self.engine)

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration on the batch that was fed last; see `TrainingStep.run`."""
        self.step.run(self.batch, current_iter, self.saver.last_checkpoint)

    def get_current_log(self) -> dict[str, float]:
        """Losses of the latest steps that were taken, averaged over ranks; every rank must call it."""
        return self.step.log()

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def content(self) -> Content:
        """What a checkpoint holds."""
        networks = {"net_g": {"params": self.net_g}}
        if self.net_g_ema is not None:
            networks["net_g"]["params_ema"] = self.net_g_ema
        if self.net_d is not None:
            networks["net_d"] = {"params": self.net_d}
        return Content(networks, self.optimizers, self.step.state(), getattr(self, "best_metric_results", {}))

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes the checkpoint of an iteration; see `Saver.save`."""
        self.saver.save(epoch, current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restores a state; see `Saver.resume`."""
        engine, best = self.saver.resume(resume_state, self.optimizers)
        if engine is not None:
            self.step.load_state(engine)
        if best is not None:
            self.best_metric_results = best

    # ---- validation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def restore(self, batch: Batch, s: Tensor | float | None) -> Tensor:
        """Restores with the EMA network where there is one, with fixed noise. (N, 3, S, S) in [-1, 1]."""
        net = self.net_g_ema or eng.bare(self.net_g)
        was_training = net.training
        net.eval()
        output = net(batch.lq, s, noise="fixed", seed=0)
        net.train(was_training)
        return output

    def test(self) -> None:
        """Restores the batch that was fed last."""
        self.output = self.restore(self.batch, self.batch.s)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Measures and saves images, records the metrics, and writes the checkpoint that waits for them.

        Every rank must call it. Training's random numbers are not changed.

        Args:
            dataloader: BasicSR's loader; its data set is split over the ranks.
            current_iter: iteration, or the test's name.
            tb_logger: TensorBoard's writer on rank 0, or None.
            save_img: whether every restored image is written.
        """
        if self.is_train:
            current_iter = min(int(current_iter), self.options.total_iter)  # BasicSR's loop counts past its end
        try:
            results = self._validate(dataloader.dataset, current_iter, tb_logger, save_img)
        except BaseException:
            self.saver.interrupted()
            raise
        if results and self.is_train and self.opt.get("rank", 0) == 0:
            row = {"iter": current_iter, "dataset": dataloader.dataset.opt["name"], "metrics": results}
            curves.append(self.opt["path"]["experiments_root"], row)
        self.saver.validated()

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """BasicSR's, also for metrics that a resumed run has and its state has not."""
        saved = getattr(self, "best_metric_results", {}).pop(dataset_name, {})
        super()._initialize_best_metric_results(dataset_name)
        self.best_metric_results[dataset_name] |= saved

    def _validate(self, dataset: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> dict[str, float]:
        """The metrics of a data set, which are logged with the best so far (BasicSR's records)."""
        name = dataset.opt["name"]
        label = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
        view = val.View(self.opt, str(self.device), self.restore, self.fed)
        with val.kept_random_state():
            rows = val.measured_rows(view, dataset, label if save_img else None)
            if self.opt.get("rank", 0) == 0 and self.opt["val"].get("grid", 0):
                val.save_grid(view, dataset, eng.bare(self.net_g), current_iter, tb_logger)
        values = val.reduced_rows(rows, self.opt["val"].get("metrics") or {})
        self.metric_results = {metric: value for metric, value in values.items() if not isinstance(value, str)}
        if values:
            self._initialize_best_metric_results(name)
            for metric, value in self.metric_results.items():
                self._update_best_metric_result(name, metric, value, current_iter)
                if tb_logger is not None:
                    tb_logger.add_scalar(f"metrics/{name}/{metric}", value, current_iter)
            best = self.best_metric_results[name] if self.is_train else {}
            get_root_logger().info("\n".join([f"Validation {name} ({len(rows)} images)", *val.lines(values, best)]))
        return self.metric_results
