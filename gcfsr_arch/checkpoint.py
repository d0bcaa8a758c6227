"""Reading and writing networks: our safetensors, BasicSR's .pth, the released .pth. Nothing is unpickled."""

import json
import pickle
import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import write_atomic
from gcfsr_arch.generator import GCFSR

State = dict[str, Tensor]


# our name -> the released one; {fields} are filled in by `released_name`
_RELEASED = (
    (r"encoder\.first\.(?P<kind>weight|bias)", "conv_body_first.{conv}"),
    (r"encoder\.down\.(?P<size>\d+)\.(?P<kind>weight|bias)", "conv_body_down.{depth_1}.{conv_down}"),
    (r"encoder\.top\.(?P<kind>weight|bias)", "final_conv.{conv}"),
    (r"encoder\.skip\.(?P<size>\d+)\.(?P<kind>weight|bias)", "condition_shift.{depth}.0.{kind}"),
    (r"encoder\.head\.down(?P<n>\d)\.(?P<kind>weight|bias)", "final_down{n}.{conv_down}"),
    (r"encoder\.head\.linear\.(?P<kind>weight|bias)", "final_linear.{kind}"),
    (r"modulation\.gen\.(?P<size>\d+)\.(?P<kind>weight|bias)", "condition_scale1.{depth}.{kind}"),
    (r"modulation\.enc\.(?P<size>\d+)\.(?P<kind>weight|bias)", "condition_scale2.{depth}.{kind}"),
    (r"levels\.16\.conv\.(?P<part>.+)", "style_conv1.{style}"),
    (r"levels\.(?P<size>\d+)\.up\.(?P<part>.+)", "style_convs.{height_2}.{style}"),
    (r"levels\.(?P<size>\d+)\.conv\.(?P<part>.+)", "style_convs.{height_2_1}.{style}"),
    (r"levels\.16\.to_rgb\.(?P<part>.+)", "to_rgb1.{rgb}"),
    (r"levels\.(?P<size>\d+)\.to_rgb\.(?P<part>.+)", "to_rgbs.{height}.{rgb}"),
    (r"first\.(?P<kind>weight|bias)", "conv_body.0.{conv}"),
    (r"blocks\.(?P<n>\d+)\.conv1\.(?P<kind>weight|bias)", "conv_body.{n_1}.conv1.{conv}"),
    (r"blocks\.(?P<n>\d+)\.conv2\.(?P<kind>weight|bias)", "conv_body.{n_1}.conv2.{conv_down}"),
    (r"blocks\.(?P<n>\d+)\.skip\.(?P<kind>weight)", "conv_body.{n_1}.skip.{conv_down}"),
    (r"final_conv\.(?P<kind>weight|bias)", "final_conv.{conv}"),
    (r"linear1\.(?P<kind>weight|bias)", "final_linear.0.{kind}"),
    (r"linear2\.(?P<kind>weight|bias)", "final_linear.1.{kind}"),
)
_STYLE_PARTS = {
    "conv.weight": "modulated_conv.weight",
    "conv.style.weight": "modulated_conv.modulation.weight",
    "conv.style.bias": "modulated_conv.modulation.bias",
    "noise_strength": "weight",
    "bias": "activate.bias",
}
_RGB_PARTS = {**_STYLE_PARTS, "bias": "bias"}


def released_name(name: str, out_size: int) -> str:
    """The key that the released code gives to a parameter of ours, generator or discriminator.

    Encoder and modulation count from the largest level down, the generator from 32 pixels up.

    Raises:
        KeyError: the released code has no such parameter.
    """
    for pattern, target in _RELEASED:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        found: dict[str, str] = match.groupdict()
        bias = found.get("kind") == "bias"
        size, n, part = int(found.get("size", 16)), found.get("n", "0"), found.get("part", "")
        depth = (out_size // size).bit_length() - 1  # levels below the largest
        height = (size // 32).bit_length() - 1  # levels above 32 pixels
        return target.format(
            kind=found.get("kind"), n=n, n_1=int(n) + 1, depth=depth, depth_1=depth - 1, height=height,
            height_2=2 * height, height_2_1=2 * height + 1, style=_STYLE_PARTS.get(part), rgb=_RGB_PARTS.get(part),
            conv="1.bias" if bias else "0.weight",  # [convolution, activation]
            conv_down="2.bias" if bias else "1.weight",  # [blur, convolution, activation]
        )  # fmt: skip
    raise KeyError(name)


def read_state(
    path: str | Path, prefer: Sequence[str] = ("params_ema", "params")
) -> tuple[State, dict[str, Any] | None]:
    """Reads a checkpoint without unpickling objects.

    Takes safetensors, a bare state dict, or a dict with `params_ema` or `params`; a `module.` prefix is dropped.

    Args:
        path: the file.
        prefer: which of the dict's entries to take, the first that is there.

    Returns:
        The parameters and buffers in float32, and the network's arguments where they are stored.

    Raises:
        GCFSRError: no such file, damaged, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise GCFSRError(f"{path}: there is no such checkpoint file")
    try:
        found, config = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path, prefer)
    except pickle.UnpicklingError as error:
        raise GCFSRError(f"{path}: it holds more than tensors (or is damaged), so it is not loaded") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = next(iter(str(error).splitlines()), "it is empty")
        raise GCFSRError(f"{path}: it is damaged or no checkpoint ({reason})") from error
    state = {key.removeprefix("module."): value.float() for key, value in found.items() if isinstance(value, Tensor)}
    if not state or len(state) < len(found):
        raise GCFSRError(f"{path}: it holds no network (a dict of tensors, alone or under 'params_ema', is needed)")
    return state, _parse_config(path, config)


def _read_safetensors(path: Path) -> tuple[dict[str, object], object]:
    opened: Any = safe_open(path, framework="pt")  # untyped upstream
    with opened as file:
        metadata = cast("dict[str, str]", file.metadata() or {})
        return {name: file.get_tensor(name) for name in list(file.keys())}, metadata.get("config")


def _read_pth(path: Path, prefer: Sequence[str]) -> tuple[dict[str, object], object]:
    """The state dict of a .pth, found under a preferred key or bare, and the configuration beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its remark on the pickle protocol precedes the refusal, which says enough
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    outer = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    for key in prefer:
        inner = outer.get(key)
        if isinstance(inner, dict):
            return cast("dict[str, object]", inner), outer.get("config")
    return outer, None


def _parse_config(path: Path, config: object) -> dict[str, Any] | None:
    if config is None:
        return None
    try:
        return json.loads(str(config))
    except json.JSONDecodeError as error:
        raise GCFSRError(f"{path}: its stored configuration is not JSON") from error


def infer_config(state: State) -> dict[str, Any] | None:
    """The arguments of `GCFSR` that a state dict stands for, from its keys and shapes; None if it is no generator."""
    released = "conv_body_first.0.weight" in state
    if not released and "encoder.first.weight" not in state:
        return None
    skip = r"condition_shift\.(\d+)\.0\.weight" if released else r"encoder\.skip\.(\d+)\.weight"
    shapes = {int(m[1]): state[key].shape[0] for key in state if (m := re.fullmatch(skip, key))}
    if not shapes:
        return None
    out_size = 16 << (len(shapes) - 1)
    if released:
        shapes = {out_size >> k: c for k, c in shapes.items()}
    base, first_wide = shapes.get(16, 512), shapes.get(64)
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
    if style in state:
        config["num_style_feat"] = state[style].shape[1]
    if config["variant"] == "released" and down2 is not None and down2.shape[0] == down2.shape[1]:
        config["blind"] = True
    return config


def fit(
    net: nn.Module, state: State, name_of: Callable[[str], str] | None = None, path: str | Path = "the checkpoint"
) -> None:
    """Loads a state dict into a network, key by key.

    Args:
        net: the network, changed in place.
        state: parameters; leading axes of one may be there or not.
        name_of: maps our key to the state's; None takes it as it is.
        path: for the error.

    Raises:
        GCFSRError: naming the first key that is missing, has another shape, or is too much.
    """
    left = {key for key in state if not key.startswith("noises.")}  # released buffers of wrong sizes, never used
    loaded: State = {}
    for key, own in net.state_dict().items():
        theirs = key if name_of is None else name_of(key)
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
        raise GCFSRError(f"{path}: key '{min(left)}' belongs to no part of the network")
    net.load_state_dict(loaded)


def _core_shape(x: Tensor) -> tuple[int, ...]:
    return tuple(n for n in x.shape if n != 1)  # the released kernels carry a leading axis of one


def load_generator(path: str | Path, max_factor: float | None = None, device: str | torch.device = "cpu") -> GCFSR:
    """Loads a generator in eval mode, whatever wrote it; the form is read from the keys and shapes alone.

    Args:
        path: safetensors of `save_generator`, BasicSR's net_g_*.pth of ours, or the authors' released .pth.
        max_factor: the factor that s = 1 stands for, where the file does not store it.
        device: where the network goes.

    Raises:
        GCFSRError: no such file, damaged, or the first key that does not fit.
    """
    state, config = read_state(path)
    released = "conv_body_first.0.weight" in state
    config = config or infer_config(state)
    if config is None:
        raise GCFSRError(f"{path}: key '{next(iter(state))}' belongs to no generator of GCFSR")
    if max_factor is not None:
        config["max_factor"] = max_factor
    try:
        net = GCFSR(**config)  # an argument unknown to this version raises TypeError
    except TypeError as error:
        raise GCFSRError(f"{path}: its stored configuration does not fit ({error})") from error
    fit(net, state, partial(released_name, out_size=net.out_size) if released else None, path)
    return net.eval().to(device)


def load_discriminator(path: str | Path, net: GCFSRDiscriminator, out_size: int) -> None:
    """Loads a discriminator's weights, ours or the released ones, into `net`.

    Raises:
        GCFSRError: no such file, damaged, or the first key that does not fit.
    """
    state, _ = read_state(path)
    released = "conv_body.0.0.weight" in state
    fit(net, state, partial(released_name, out_size=out_size) if released else None, path)


def save_generator(net: GCFSR, path: str | Path, half: bool = False, extra: dict[str, str] | None = None) -> None:
    """Writes safetensors with the network's arguments in the metadata (key `config`), whole or not at all.

    Args:
        net: the network.
        path: target, .safetensors.
        half: store float16 (loads back as float32).
        extra: further metadata, for example licence and training data.

    Raises:
        GCFSRError: the file cannot be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    if half:
        state = {key: value.half() for key, value in state.items()}
    write_atomic(path, save(state, {"format": "pt", "config": json.dumps(net.config), **(extra or {})}))
