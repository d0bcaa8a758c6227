"""What the authors' option files mean in our keys. Plain dictionaries; nothing here knows BasicSR or torch."""

from copy import deepcopy
from typing import Any

Options = dict[str, Any]

MODEL, GENERATOR, BLIND = "GCFSR_Model", "GCFSR", "GCFSR_blind"
DISCRIMINATOR = "StyleGAN2Discriminator_no_std"
CONTROL, SINGLE = "FFHQ_control_Dataset", "SingleImage_GT_Dataset"
# fixed in the released trainer, regardless of its option files
EMA_DECAY = 0.5 ** (32 / 10000)


def our_options(opt: Options) -> Options:
    """A whole option file in our keys; one of ours is returned unchanged. The argument is not modified."""
    opt = deepcopy(opt)
    opt["network_g"] = generator_options(opt)
    if opt.get("network_d"):
        opt["network_d"] = discriminator_options(opt["network_d"])
    size = opt["network_g"].get("out_size")
    opt["datasets"] = {phase: dataset_options(block, size) for phase, block in (opt.get("datasets") or {}).items()}
    if opt.get("model_type") == MODEL and opt.get("train"):
        opt["train"] = train_options(opt["train"])
    return opt


def train_options(train: Options) -> Options:
    """The block `train` of a file for the released trainer, with what that trainer does implicitly.

    It steps D first, on restored faces of its own, and corrects Adam's beta2 for lazy regularisation as StyleGAN2 does:
    0.99^(n / (n + 1)) with a regularisation every n steps, 4 for G (although it has none) and 16 for D.
    """
    train = deepcopy(train)
    if "ema_half_life" not in train:
        train.setdefault("ema_decay", EMA_DECAY)
    train.setdefault("net_d_first", True)
    for key, every in (("optim_g", train.get("net_g_reg_every", 4)), ("optim_d", train.get("net_d_reg_every", 16))):
        if train.get(key) and train[key].get("type", "Adam") in ("Adam", "AdamW"):
            train[key].setdefault("betas", [0.0, 0.99 ** (every / (every + 1))])
    if train.get("gan_opt"):
        train["gan_opt"].setdefault("scale_d", False)  # R1's weight of 10 is for D's whole loss
    return train


def generator_options(opt: Options) -> Options:
    """The block `network_g` in our keys.

    With `model_type: GCFSR_Model`, `type: GCFSR` means the released form; its s is factor / `cond_norm` of the data.
    """
    network = dict(opt["network_g"])
    if network.get("type") == BLIND:
        return {**network, "type": GENERATOR, "variant": "released", "blind": True}
    if network.get("type") == GENERATOR and opt.get("model_type") == MODEL and "variant" not in network:
        norms = [block["cond_norm"] for block in (opt.get("datasets") or {}).values() if block.get("cond_norm")]
        return {**network, "variant": "released", **({"max_factor": norms[0]} if norms else {})}
    return network


def discriminator_options(network: Options) -> Options:
    """The block `network_d` in our keys."""
    if network.get("type") == DISCRIMINATOR:
        return {**network, "type": "GCFSRDiscriminator", "minibatch_std": False}
    return network


def dataset_options(block: Options, out_size: int | None = None) -> Options:
    """One block of `datasets` in our keys: a repeated factor of `downsample_list` is drawn as often as it is listed.

    The released data set accepts images of any size; ours gets the network's `out_size` and checks them.
    """
    if block.get("type") != CONTROL:
        return block
    rest = {key: value for key, value in block.items() if key not in ("downsample_list", "cond_norm")}
    return {
        "out_size": out_size,
        "quantize": "enlarged",
        **rest,
        "type": "MultiFactorDegradationDataset",
        "factors": block["downsample_list"],
        "max_factor": block["cond_norm"],
    }
