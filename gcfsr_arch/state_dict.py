"""Recognises the network of a state dict by its keys and shapes, and loads it under the names of either form."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.config import GCFSRConfig
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.released_names import released_name

State = dict[str, Tensor]


def infer_config(state: State) -> GCFSRConfig | None:
    """The arguments of `GCFSR` that fit a state dict, from its keys and shapes; None if it is not a generator."""
    released = "conv_body_first.0.weight" in state
    if not released and "encoder.first.weight" not in state:
        return None
    skip = r"condition_shift\.(\d+)\.0\.weight" if released else r"encoder\.skip\.(\d+)\.weight"
    found = {m[1]: value.shape[0] for key, value in state.items() if value.ndim and (m := re.fullmatch(skip, key))}
    if not 2 <= len(found) <= 9 or any(len(size) > 4 for size in found):
        return None
    shapes = {int(size): channels for size, channels in found.items()}
    out_size = 16 << (len(shapes) - 1)
    if released:
        shapes = {out_size >> k: c for k, c in shapes.items()}
    base, first_wide = shapes.get(16) or 512, shapes.get(64)
    style = "style_conv1.modulated_conv.modulation.weight" if released else "levels.16.conv.conv.style.weight"
    down2 = state.get("final_down2.1.weight" if released else "encoder.head.down2.weight")
    config: dict[str, Any] = {
        "out_size": out_size,
        "narrow": base / 512,
        "channel_multiplier": 2 if first_wide is None else first_wide / (256 * base / 512),
        "style_modulation": style in state,
        "feature_modulation": released or any(key.startswith("modulation.") for key in state),
        "variant": "released" if released or "encoder.top.weight" in state else "paper",
    }
    first = state.get("modulation.hidden.0.weight")
    if first is not None and first.shape[1:] == (len(CONDITIONS),):  # the only ones of that number
        config["conditions"] = CONDITIONS
    if "estimator.out.weight" in state:
        config["estimator"] = True
    if style in state and state[style].ndim == 2:
        config["num_style_feat"] = state[style].shape[1]
    if config["variant"] == "released" and down2 is not None and down2.ndim > 1 and down2.shape[0] == down2.shape[1]:
        config["blind"] = True
    try:
        return GCFSRConfig.from_dict(config)
    except GCFSRError:  # shapes of no network of ours
        return None


def fit(net: nn.Module, state: State, path: str | Path = "the checkpoint") -> None:
    """Loads a state dict into a network, key by key; the released names are known by their first ones.

    Args:
        net: the network, changed in place.
        state: parameters, under our names or the released ones; leading axes of one may be there or not.
        path: for the error.

    Raises:
        GCFSRError: naming the first key that is missing, unexpected, has another shape, or is not finite.
    """
    net.load_state_dict(matched(net, state, path))


def matched(net: nn.Module, state: State, path: str | Path) -> State:
    """The state dict under the network's names and in its shapes; the network may be on the meta device.

    Arguments and errors as of `fit`.
    """
    released = is_released(state)
    left = {key for key in state if not key.startswith("noises.")}  # released buffers of wrong sizes, never used
    loaded: State = {}
    for key, own in net.state_dict().items():
        theirs = released_name(key, getattr(net, "out_size", 0)) if released else key
        if theirs is None:
            raise GCFSRError(f"{path}: it is of the released form, which has no '{key}'; use variant: released")
        if theirs not in state:
            raise GCFSRError(f"{path}: key '{theirs}' is missing; it is a checkpoint of another network")
        value = state[theirs]
        if _core_shape(value) != _core_shape(own):
            raise GCFSRError(
                f"{path}: key '{theirs}' has shape {tuple(value.shape)}, the network needs {tuple(own.shape)}"
            )
        loaded[key] = value.reshape(own.shape)
        left.discard(theirs)
    if left:
        raise GCFSRError(f"{path}: unexpected key '{min(left)}', which is not part of the network")
    for key, value in loaded.items():
        if not torch.isfinite(value.float()).all():
            raise GCFSRError(f"{path}: key '{key}' has values that are NaN or infinite; the training had diverged")
    return loaded


def is_released(state: State) -> bool:
    """Whether the keys are those of the authors' generator or discriminator."""
    return "conv_body_first.0.weight" in state or "conv_body.0.0.weight" in state


def _core_shape(x: Tensor) -> tuple[int, ...]:
    return tuple(n for n in x.shape if n != 1)  # the released kernels carry a leading axis of one
