"""Feature networks of the metrics. Each loader checks the file and returns a function on uint8 RGB batches."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.lite0 import EfficientNetLite0

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Distance = Callable[[Tensor, Tensor], Tensor]  # two (N, 3, H, W) uint8 RGB -> (N,)
Features = Callable[[Tensor], Tensor]  # (N, 3, H, W) uint8 RGB -> (N, D)


def load_state(path: Path) -> dict[str, Any]:
    """Reads a state dict without running what may be in it.

    Raises:
        GCFSRError: the file is no plain state dict.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the unpickler or zip reader of the day raises
        reason = str(error).splitlines()[0]
        raise GCFSRError(f"{path}: not a plain state dict ({reason}); get the file again") from error


def fill(network: nn.Module, state: dict[str, Tensor], path: Path) -> nn.Module:
    """Loads a state dict strictly and freezes the network.

    Raises:
        GCFSRError: a key or shape does not fit.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise GCFSRError(f"{path}: weights of another network ({str(error).splitlines()[1].strip()})") from error
    return network.eval().requires_grad_(False)


def feature_distance(path: Path, device: str) -> Distance:
    """Squared distance of unit-length SqueezeNet features, mean over five depths: training's stand-in for LPIPS."""
    from gcfsr_arch.training.features import FrozenFeatures, unit_channels

    model = FrozenFeatures(path, option="SqueezeNet feature distance").to(device)

    def run(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(model(_unit(a, device) * 2 - 1), model(_unit(b, device) * 2 - 1), strict=True)
        depths = [(unit_channels(x) - unit_channels(y)).square().sum(1).mean((1, 2)) for x, y in pairs]
        return torch.stack(depths).mean(0)

    return run


def lpips_distance(path: Path, net: str, device: str) -> Distance:
    """LPIPS 0.1 by the lpips package, whose learned heads come with it.

    Args:
        path: state dict of torchvision's alexnet or vgg16.
        net: "alex" or "vgg".
        device: where to run.

    Raises:
        GCFSRError: the file is no such state dict.
    """
    import lpips

    with warnings.catch_warnings():  # the package uses torchvision's older spelling of `weights=None`
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = load_state(path)
    names = {key: "features." + key.split(".", 1)[1] for key in model.net.state_dict()}  # slice2.3.weight
    missing = [name for name in names.values() if name not in state]
    if missing:
        raise GCFSRError(f"{path}: has no {missing[0]}; it must be torchvision's state dict for {net}")
    fill(model.net, {key: state[name] for key, name in names.items()}, path)
    model.to(device)
    return lambda a, b: model(_unit(a, device) * 2 - 1, _unit(b, device) * 2 - 1).flatten()


def inception_features(path: Path, device: str) -> Features:
    """FID's Inception features (2,048), by torch-fidelity over the weights that pytorch-fid uses too."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    load_state(path)  # the package unpickles without care: be sure first that there is nothing but tensors
    try:
        model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    except RuntimeError as error:
        raise GCFSRError(f"{path}: weights of another network than torch-fidelity's Inception") from error
    model.to(device)
    return lambda x: model(x.to(device))[0]


def lite0_features(path: Path, device: str) -> Features:
    """1,280 pooled features of EfficientNet-Lite0 at 224x224, ImageNet normalisation."""
    model = fill(EfficientNetLite0(), load_state(path), path).to(device)

    def run(x: Tensor) -> Tensor:
        small = nn.functional.interpolate(_unit(x, device), (224, 224), mode="bilinear", antialias=True)
        return model(_normalised(small, IMAGENET_MEAN, IMAGENET_STD))

    return run


def arcface_embedding(path: Path, device: str) -> Features:
    """facexlib's ArcFace (IR-SE 50): 512 values of unit length from (N, 3, 112, 112)."""
    from facexlib.recognition.arcface_arch import Backbone

    model = fill(Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se"), load_state(path), path).to(device)
    return lambda x: model(_unit(x, device) * 2 - 1)


def onnx_embedding(path: Path, normalisation: str) -> Features:
    """Any ONNX embedding of (N, 3, 112, 112) RGB.

    Args:
        path: the model.
        normalisation: "half" for (x / 255 - 0.5) / 0.5 (ArcFace's habit), "imagenet" for ImageNet's mean and std.

    Raises:
        GCFSRError: the file is no ONNX model, or another normalisation is asked for.
    """
    import onnxruntime

    known = {"half": ((0.5,) * 3, (0.5,) * 3), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}
    if normalisation not in known:
        raise GCFSRError(f"{path}: norm={normalisation} is unknown; known are {', '.join(known)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exception classes are not public
        raise GCFSRError(f"{path}: not an ONNX model that ONNX Runtime loads") from error
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> Tensor:
        rows = _normalised(_unit(x, "cpu"), *known[normalisation]).numpy()
        return torch.from_numpy(np.concatenate([np.asarray(session.run(None, {name: row[None]})[0]) for row in rows]))

    return run


def _unit(x: Tensor, device: str) -> Tensor:
    return x.to(device).float() / 255


def _normalised(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (x - x.new_tensor(mean).view(3, 1, 1)) / x.new_tensor(std).view(3, 1, 1)
