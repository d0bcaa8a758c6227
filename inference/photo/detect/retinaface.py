"""facexlib's RetinaFace as a detector. Imported only where it is used: facexlib takes a second to load."""

import warnings
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from facexlib.detection.retinaface import RetinaFace, generate_config
from facexlib.detection.retinaface_utils import PriorBox, decode, decode_landm
from torch import Tensor

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect.detection import Detection, detections


class RetinaFaceDetector:
    """facexlib's RetinaFace, built without its downloads and without the parsing network of its FaceRestoreHelper."""

    searches_scales = True

    def __init__(self, path: Path, network: str = "resnet50", confidence: float = 0.9, device: str = "cpu") -> None:
        self.confidence = confidence
        self.device = device
        self.net = _load_retinaface(path, network, device)

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of one BGR uint8 image at the size it is given (found best: faces of 16 to 500 pixels)."""
        height, width = image.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(self.device, torch.float32)[None]
        priors = _priors(self.net.backbone, height, width).to(self.device)
        with torch.inference_mode():
            loc, conf, points = self.net(x - self.net.mean_tensor)
            likely = conf[0, :, 1] > self.confidence
            variance = self.net.cfg["variance"]
            boxes = decode(loc[0][likely], priors[likely], variance).cpu().numpy() * ([width, height] * 2)
            points = decode_landm(points[0][likely], priors[likely], variance).cpu().numpy() * ([width, height] * 5)
            scores = conf[0, :, 1][likely].cpu().numpy()
        return detections(boxes, points, scores)


def _load_retinaface(path: Path, network: str, device: str) -> RetinaFace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib passes torchvision a deprecated argument
        net = RetinaFace(network_name=network, device=device)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    except (UnpicklingError, RuntimeError, AttributeError, EOFError, OSError) as error:
        raise GCFSRError(f"{path}: not the weights of RetinaFace {network}") from error
    return net.eval()


@lru_cache(maxsize=8)
def _priors(backbone: str, height: int, width: int) -> Tensor:
    """RetinaFace's anchors for one image size: (A, 4) centre and size as shares of the image."""
    config = generate_config("mobile0.25" if backbone == "mobilenet0.25" else "resnet50")
    return PriorBox(config, image_size=(height, width)).forward()
