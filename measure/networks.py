"""Feature networks of the metrics. Each loader checks the file and returns a function on uint8 RGB batches."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_measure.frozen import IMAGENET_MEAN, IMAGENET_STD, fill
from gcfsr_measure.lite0 import EfficientNetLite0
from gcfsr_measure.squeezenet import FrozenFeatures, unit_channels

# normalisation of an ONNX embedding's input in [0, 1]: (mean, standard deviation)
NORMALISATIONS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "half": ((0.5,) * 3, (0.5,) * 3),  # (x - 127.5) / 127.5
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "raw": ((0.0,) * 3, (1 / 255,) * 3),  # 0 to 255: normalisation is part of the network
}
# the normalisation of common embeddings by the stem of their file
KNOWN_EMBEDDINGS = {
    "mobilefacenet": "imagenet",
    **dict.fromkeys(("w600k_r50", "w600k_mbf", "glintr100"), "half"),  # insightface's buffalo_l, buffalo_s, antelopev2
    **dict.fromkeys(("arcfaceresnet100-8", "arcfaceresnet100-11-int8", "face_recognition_sface_2021dec"), "raw"),
}

Distance = Callable[[Tensor, Tensor], Tensor]  # two (N, 3, H, W) uint8 RGB -> (N,)
Features = Callable[[Tensor], Tensor]  # (N, 3, H, W) uint8 RGB -> (N, D)


def feature_distance(path: Path, device: str) -> Distance:
    """Squared distance of unit-length SqueezeNet features, mean over five depths: training's substitute for LPIPS."""
    model = FrozenFeatures(path).to(device)

    def run(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(model(_signed(a, device)), model(_signed(b, device)), strict=True)
        depths = [(unit_channels(x) - unit_channels(y)).square().sum(1).mean((1, 2)) for x, y in pairs]
        return torch.stack(depths).mean(0)

    return torch.no_grad()(run)


def squeezenet_features(path: Path, device: str) -> Features:
    """512 pooled features of SqueezeNet's last layer."""
    model = FrozenFeatures(path).to(device)
    return torch.no_grad()(lambda x: model(_signed(x, device))[-1].mean((2, 3)))


def lpips_distance(path: Path, net: str, device: str) -> Distance:
    """LPIPS 0.1 (Zhang et al., 2018) by the lpips package, whose learned heads come with it.

    Args:
        path: state dict of torchvision's alexnet, vgg16 or squeezenet1_1.
        net: "alex", "vgg" or "squeeze".
        device: where to run.

    Raises:
        GCFSRError: the file is not such a state dict.
    """
    import lpips

    with warnings.catch_warnings():  # the package uses torchvision's deprecated arguments
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = read_state(path)[0]
    names = {key: "features." + key.split(".", 1)[1] for key in model.net.state_dict()}  # slice2.3.weight
    missing = [name for name in names.values() if name not in state]
    if missing:
        raise GCFSRError(f"{path}: has no {missing[0]}; it must be torchvision's state dict for {net}")
    fill(model.net, {key: state[name] for key, name in names.items()}, path)
    model.to(device)
    return torch.no_grad()(lambda a, b: model(_signed(a, device), _signed(b, device)).flatten())


def inception_features(path: Path, device: str) -> Features:
    """FID's Inception features (2,048), by torch-fidelity, with the weights that pytorch-fid uses too.

    Raises:
        GCFSRError: the file holds another network.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    read_state(path)  # the package unpickles: check first that the file holds only tensors
    try:
        model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    except RuntimeError as error:
        raise GCFSRError(f"{path}: weights of another network than torch-fidelity's Inception") from error
    model.to(device)
    return lambda x: model(x.to(device))[0]


def lite0_features(path: Path, device: str) -> Features:
    """1,280 pooled features of EfficientNet-Lite0 at 224x224, ImageNet normalisation."""
    model = fill(EfficientNetLite0(), read_state(path)[0], path).to(device)

    def run(x: Tensor) -> Tensor:
        small = nn.functional.interpolate(_unit(x, device), (224, 224), mode="bilinear", antialias=True)
        return model(_normalised(small, IMAGENET_MEAN, IMAGENET_STD))

    return torch.no_grad()(run)


def arcface_embedding(path: Path, device: str) -> Features:
    """facexlib's ArcFace (IR-SE 50): 512 values of unit length from (N, 3, 112, 112)."""
    from facexlib.recognition.arcface_arch import Backbone

    model = fill(Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se"), read_state(path)[0], path).to(device)
    return torch.no_grad()(lambda x: model(_signed(x, device)))


def onnx_embedding(path: Path, norm: str = "") -> Features:
    """Any ONNX embedding of (N, 3, 112, 112) RGB.

    Args:
        path: the model.
        norm: a key of `NORMALISATIONS`; empty for a file named in `KNOWN_EMBEDDINGS`.

    Raises:
        GCFSRError: the file is not an ONNX model, or its normalisation is unknown.
    """
    import onnxruntime

    norm = norm or KNOWN_EMBEDDINGS.get(path.stem.lower(), "")
    if norm not in NORMALISATIONS:
        raise GCFSRError(
            f"{path}: norm={norm or '?'} is unknown; give the input's normalisation: half for (x - 127.5) / 127.5, "
            "imagenet, or raw for 0 to 255"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4  # it prints what it raises
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exception classes are not public
        raise GCFSRError(f"{path}: not an ONNX model that ONNX Runtime loads") from error

    def embed(row: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {session.get_inputs()[0].name: row[None]})[0])

    def run(x: Tensor) -> Tensor:
        rows = _normalised(_unit(x, "cpu"), *NORMALISATIONS[norm]).numpy()
        return torch.from_numpy(np.concatenate([embed(row) for row in rows]))

    try:
        shape = embed(np.zeros((3, 112, 112), np.float32)).shape
    except Exception as error:
        raise GCFSRError(f"{path}: not a model of one (N, 3, 112, 112) image ({first_line(error)})") from error
    if len(shape) != 2 or shape[0] != 1:
        raise GCFSRError(f"{path}: not an embedding: it gives {shape} for one image, where (1, length) is needed")
    return run


def _unit(x: Tensor, device: str) -> Tensor:
    return x.to(device).float() / 255


def _signed(x: Tensor, device: str) -> Tensor:
    return _unit(x, device) * 2 - 1


def _normalised(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (x - x.new_tensor(mean).view(3, 1, 1)) / x.new_tensor(std).view(3, 1, 1)
