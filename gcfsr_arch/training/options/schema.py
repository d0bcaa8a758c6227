"""Schema of a whole option file: BasicSR's keys and ours. `report.py` reads it."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from gcfsr_arch.training.options.data import Dataset, one_of
from gcfsr_arch.training.options.metrics import AnyMetric
from gcfsr_arch.training.options.networks import (
    ConsistencyLoss,
    EstimateLoss,
    FeatureLoss,
    GanLoss,
    IdentityLoss,
    ListedLoss,
    Mismatch,
    NetworkD,
    NetworkG,
    PerceptualLoss,
    PixelLoss,
    RegionLoss,
    SsimLoss,
)
from gcfsr_arch.training.options.optimizers import AnyOptimizer
from gcfsr_arch.training.options.types import (
    Count,
    Float,
    Gpus,
    Int,
    Name,
    NaturalInt,
    OpenSection,
    Phase,
    Positive,
    Section,
    Share,
    Weight,
    message,
    unused,
)

NO_PATH_LENGTH = "path length regularisation is StyleGAN2's, GCFSR has none"
OTHER_MODEL = "BasicSR's key for another model"


class MultiStep(Section):
    """The learning rate falls by gamma at each milestone."""

    type: Literal["MultiStepLR", "MultiStepRestartLR"]
    milestones: list[NaturalInt]
    gamma: Positive = 0.1
    restarts: list[NaturalInt] = Field([0])
    restart_weights: list[Weight] = Field([1])


class Cosine(Section):
    """Cosine annealing with restarts."""

    type: Literal["CosineAnnealingRestartLR"]
    periods: Annotated[list[Count], Field(min_length=1)]
    restart_weights: list[Weight] = Field([1])
    eta_min: Weight = 0.0


class WarmupStableDecay(Section):
    """The learning rate rises, stays, and falls over the last iterations of the run, however long that is."""

    type: Literal["WarmupStableDecayLR"]
    warmup: NaturalInt = Field(0, description="Iterations of the linear rise.")
    decay: NaturalInt = Field(description="Iterations of the fall, the last ones before total_iter.")
    shape: Literal["linear", "cosine", "sqrt"] = Field("sqrt", description="Of the fall; sqrt: 1 - sqrt(progress).")
    eta_min: Weight = Field(0.0, description="Learning rate at the end.")


class OtherScheduler(OpenSection):
    """An unknown scheduler; `cross.py` says so."""

    type: str


SCHEDULERS: dict[str, type[Section]] = {
    "MultiStepLR": MultiStep,
    "MultiStepRestartLR": MultiStep,
    "CosineAnnealingRestartLR": Cosine,
    "WarmupStableDecayLR": WarmupStableDecay,
}


Scheduler = one_of(SCHEDULERS, OtherScheduler)


class EngineOptions(Section):
    """How a step is computed; every default is the plain full-precision step."""

    amp: Literal["auto", "bf16", "fp16"] | None = Field(
        None, description="Autocast of both networks; auto is bf16 where the device computes in it."
    )
    accumulate: Count = Field(1, description="Micro-batches that a batch is cut into.")
    compile: bool = Field(False, description="torch.compile both networks in place.")
    channels_last: bool = Field(False, description="Memory format of networks and images.")
    tf32: bool | None = Field(
        None, description="TF32 on CUDA; without it torch's default. R1 is computed in full float32 in any case."
    )
    fused: Any = unused("Adam, AdamW and SGD are always fused")
    checkpointing: bool = Field(False, description="Recompute the generator's levels in the backward pass.")
    clip_grad_g: Positive | None = Field(None, description="Largest gradient norm of the generator.")
    clip_grad_d: Positive | None = Field(None, description="Largest gradient norm of the discriminator.")


class Losses(Section):
    """The losses of the block `train`, each of them optional."""

    pixel_opt: PixelLoss | None = None
    perceptual_opt: PerceptualLoss | None = None
    ssim_opt: SsimLoss | None = None
    region_opt: RegionLoss | None = None
    feature_opt: FeatureLoss | None = None
    identity_opt: IdentityLoss | None = None
    consistency_opt: ConsistencyLoss | None = None
    gan_opt: GanLoss | None = None
    estimate_opt: EstimateLoss | None = None
    mismatch: Mismatch | None = None
    losses: list[ListedLoss] = Field([], description="Losses of the output and its ground truth, each by its type.")


class Train(Losses):
    """The block `train`."""

    total_iter: Count = Field(description="Iterations of the whole run.")
    warmup_iter: Int = Field(-1, description="Iterations of linear warm-up, -1 for none.")
    optim_g: AnyOptimizer
    optim_d: AnyOptimizer | None = None
    scheduler: Scheduler | None = None
    noise: Literal["random", "fixed", "zero"] = Field("random", description="The generator's noise while training.")

    r1_reg_weight: Weight | None = Field(None, description="R1 gradient penalty of D; 0 for none.")
    r2_reg_weight: Weight | None = Field(None, description="The same penalty on restored faces (R3GAN); 0 for none.")
    net_d_pause: Share | None = Field(
        None, description="D pauses while it tells real from restored faces better than this share, on average."
    )
    net_d_reg_every: Count = Field(16, description="Iterations between two R1 steps.")
    net_d_iters: Count = Field(1, description="Discriminator steps per generator step.")
    net_d_init_iters: NaturalInt = Field(0, description="Discriminator steps before the first generator step.")
    net_d_first: bool = Field(False, description="D steps before G, on restored faces of its own (the released code).")
    ema_decay: Annotated[Float, Field(ge=0, lt=1)] = Field(0, description="Decay of the moving average per step.")
    ema_half_life: Positive | None = Field(None, description="Half-life of the moving average in images instead.")
    ema_rampup: Positive | None = Field(None, description="Half-life at most this share of the images seen.")
    engine: EngineOptions | None = None
    max_bad_steps: Count = Field(10, description="Steps in a row that are not finite before the run stops.")

    path_batch_shrink: Any = unused(NO_PATH_LENGTH)
    path_reg_weight: Any = unused(NO_PATH_LENGTH)
    net_g_reg_every: Any = unused(NO_PATH_LENGTH)
    mixing_prob: Any = unused("style mixing is StyleGAN2's, GCFSR takes its styles from the image")
    ldl_opt: Any = unused("of another model; ours is losses: [{type: LDLLoss}]")
    feature_matching_opt: Any = unused(OTHER_MODEL)
    fix_flow: Any = unused(OTHER_MODEL)
    flow_lr_mul: Any = unused(OTHER_MODEL)
    dcn_lr_mul: Any = unused(OTHER_MODEL)
    tsa_iter: Any = unused(OTHER_MODEL)
    l1_gt_usm: Any = unused(OTHER_MODEL)
    percep_gt_usm: Any = unused(OTHER_MODEL)
    gan_gt_usm: Any = unused(OTHER_MODEL)


class Val(Section):
    """The block `val`."""

    val_freq: Count | None = Field(None, description="Iterations between two validations.")
    save_img: bool = Field(False, description="Write the images of each validation.")
    pbar: bool = Field(False, description="Show a progress bar.")
    suffix: str | None = Field(None, description="Testing: ending of the images' names.")
    metrics: dict[str, AnyMetric] | None = Field(None, description="Name: metric.")
    batch: Count = Field(4, description="Images restored and measured at once.")
    workers: NaturalInt = Field(0, description="Worker processes for PSNR, SSIM and NIQE; from 2 on.")
    grid: NaturalInt = Field(0, description="Faces of the grid input, several s, ground truth; 0 for no grid.")
    grid_factors: list[Positive] | None = Field(None, description="Factors of the grid's columns.")
    num_val_samples: Any = unused("every image of the validation set is used")
    center_frame_only: Any = unused(OTHER_MODEL)
    flip_seq: Any = unused(OTHER_MODEL)


NetworkKey = Literal["network_g", "network_d"]
NetworkKeys = Annotated[list[NetworkKey] | NetworkKey, message("should be network_g, network_d or a list of them")]


class Paths(Section):
    """The block `path`."""

    experiments_root: str | None = Field(None, description="Folder of runs; without it ./experiments.")
    results_root: str | None = Field(None, description="Folder of test results; without it ./results.")
    pretrain_network_g: str | None = None
    pretrain_network_d: str | None = None
    param_key_g: Literal["params", "params_ema"] | None = "params"
    param_key_d: Literal["params", "params_ema"] | None = "params"
    strict_load_g: bool = True
    strict_load_d: bool = True
    resume_state: str | None = Field(None, description="A .state file to resume from.")
    ignore_resume_networks: NetworkKeys | None = Field(None, description="Networks that a resume leaves alone.")


class Wandb(Section):
    """Weights & Biases."""

    project: str | None = None
    resume_id: str | None = None


class Logger(Section):
    """The block `logger`."""

    print_freq: Count = Field(description="Iterations between two lines.")
    save_checkpoint_freq: Count = Field(description="Iterations between two checkpoints.")
    dump_samples: NaturalInt = Field(0, description="Training samples to write to samples.png: lq above gt.")
    keep_last: Count | None = Field(None, description="Checkpoints to keep; without it all.")
    use_tb_logger: bool = Field(False, description="Write TensorBoard's files.")
    wandb: Wandb | None = None


class DistParams(Section):
    """The block `dist_params`, read by the slurm launcher alone."""

    backend: Literal["nccl", "gloo", "mpi"] = "nccl"
    port: Int | None = None


class Options(Section):
    """Option file of gcfsr's models for BasicSR's trainer and tester."""

    model_config = ConfigDict(title="gcfsr option file")

    name: Name = Field(description="Name of the run and of its folder.")
    model_type: str = Field(description="GCFSRModel, GCFSR_Model (the released code's), or a model derived from them.")
    num_gpu: Gpus = Field(description="0 for the CPU; a process uses one GPU, torchrun starts one for each.")
    manual_seed: NaturalInt | None = Field(None, description="Seed of everything; without it a random one.")
    scale: Any = unused("images come at output size")
    datasets: dict[Phase, Dataset] = Field(description="train, val, val_2, ..., test, test_2, ...")
    network_g: NetworkG
    network_d: NetworkD | None = None
    path: Paths
    train: Train | None = None
    val: Val | None = None
    logger: Logger | None = None
    dist_params: DistParams | None = None
    find_unused_parameters: bool = Field(False, description="DistributedDataParallel's; ours need False.")
