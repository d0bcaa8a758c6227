"""Two networks that no face restoration network was trained with: dlib's face embedding and 68 landmarks.

The weights are those of the npm package @vladmandic/face-api (MIT; dlib's model is CC0), converted by
tools/face_api.py. The layers are those of its FaceRecognitionNet and FaceLandmark68Net.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gcfsr_arch.checkpoint import read_state
from gcfsr_measure.frozen import fill
from gcfsr_measure.lite0 import SameConv

MEAN_RGB = (122.782, 117.001, 104.298)  # on the scale of 255, of both networks
DLIB_SIZE, LANDMARK_SIZE = 150, 112


class Residual(nn.Module):
    """dlib's residual block: (N, cin, H, W) -> (N, cout, H, W), or half of that size if `down`."""

    def __init__(self, cin: int, cout: int, down: bool):
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(cin, cout, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.down:  # the pooled input may be one pixel larger, and has fewer channels: zeros fill both
            x = F.avg_pool2d(x, 2)
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class DlibFace(nn.Module):
    """dlib's face recognition network (5.6 M parameters). (N, 3, 150, 150) RGB -> (N, 128); see `normalised`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv32_down = nn.Conv2d(3, 32, 7, stride=2)
        cin, blocks = 32, []
        for cout, count in ((32, 3), (64, 3), (128, 2), (256, 2)):
            if cout > 32:
                blocks.append((f"conv{cout}_down", Residual(cin, cout, down=True)))
            blocks += [(f"conv{cout}_{k + 1}", Residual(cout, cout, down=False)) for k in range(count)]
            cin = cout
        blocks.append(("conv256_down_out", Residual(256, 256, down=True)))
        for name, block in blocks:
            self.add_module(name, block)
        self.blocks = [name for name, _ in blocks]
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv32_down(x)), 3, 2)
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3)))


class Separable(nn.Module):
    """A depthwise convolution and a pointwise one, padded as TensorFlow's SAME."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.depthwise = SameConv(cin, cin, 3, stride, groups=cin)
        self.pointwise = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Dense(nn.Module):
    """Four convolutions, each on the sum of all before: (N, cin, H, W) -> (N, cout, H / 2, W / 2)."""

    def __init__(self, cin: int, cout: int, first: bool):
        super().__init__()
        self.conv0 = SameConv(cin, cout, 3, 2, bias=True) if first else Separable(cin, cout, 2)
        self.conv1, self.conv2, self.conv3 = (Separable(cout, cout, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.conv0(x))
        y = self.conv1(total)
        for conv in (self.conv2, self.conv3):
            total, y = total + y, conv(F.relu(total + y))
        return F.relu(total + y)


class Landmarks68(nn.Module):
    """(N, 3, 112, 112) RGB -> (N, 68, 2), x and y as shares of the side; see `normalised`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense0, self.dense1 = Dense(3, 32, first=True), Dense(32, 64, first=False)
        self.dense2, self.dense3 = Dense(64, 128, first=False), Dense(128, 256, first=False)
        self.fc = nn.Linear(256, 136)

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.dense0, self.dense1, self.dense2, self.dense3):
            x = block(x)
        return self.fc(F.avg_pool2d(x, 7, 2).flatten(1)).view(-1, 68, 2)


def normalised(x: Tensor, device: str) -> Tensor:
    """What both networks are given: (N, 3, S, S) RGB in [0, 255] -> (x - mean) / 255."""
    x = x.to(device).float()
    return (x - torch.stack([x.new_full((1, 1), mean) for mean in MEAN_RGB])) / 255  # nothing is copied to the device


def dlib_network(path: Path) -> nn.Module:
    """dlib's network with the weights of a file, frozen.

    Raises:
        GCFSRError: the file is not what tools/face_api.py writes.
    """
    return fill(DlibFace(), read_state(path)[0], path)


def dlib_embedding(path: Path, device: str) -> Callable[[Tensor], Tensor]:
    """(N, 3, 150, 150) uint8 RGB -> (N, 128).

    Raises:
        GCFSRError: the file is not what tools/face_api.py writes.
    """
    net = dlib_network(path).to(device)
    return torch.no_grad()(lambda x: net(normalised(x, device)))


def landmarks(path: Path, device: str) -> Callable[[Tensor], Tensor]:
    """(N, 3, 112, 112) uint8 RGB -> (N, 68, 2), shares of the side.

    Raises:
        GCFSRError: the file is not what tools/face_api.py writes.
    """
    net = fill(Landmarks68(), read_state(path)[0], path).to(device)
    return torch.no_grad()(lambda x: net(normalised(x, device)))
