"""EfficientNet-Lite0 (Tan and Le 2019; the Lite form has ReLU6 and no squeeze-excitation) as a feature extractor."""

from torch import Tensor, nn
from torch.nn import functional as F

# expansion, kernel, stride, channels, repeats
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME pads: the odd row goes below and to the right."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False):
        super().__init__(cin, cout, kernel, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        return super().forward(F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted residual block: expand, depthwise, project. (N, cin, H, W) -> (N, cout, H / stride, W / stride)."""

    def __init__(self, cin: int, cout: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = cin * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and cin == cout
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(cin, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, cout, 1), _norm(cout)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """Pooled features. (N, 3, H, W) normalised RGB -> (N, 1280).

    `classify` continues to the 1,000 ImageNet classes; `pyramid` stops at the last block of four strides.
    """

    TAPS = (2, 4, 10, 15)  # indices of blocks: strides 4, 8, 16, 32
    CHANNELS = (24, 40, 112, 320)  # of these

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2), _norm(32)
        blocks, cin = [], 32
        for expansion, kernel, stride, cout, repeats in STAGES:
            for index in range(repeats):
                blocks.append(Block(cin, cout, expansion, kernel, stride if index == 0 else 1))
                cin = cout
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv(cin, 1280, 1), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self._bn1(self._conv_head(self.pyramid(x)[-1]))).mean((2, 3))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised RGB -> (N, CHANNELS[i], H / stride, W / stride) at strides 4, 8, 16, 32."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        found = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.TAPS:
                found.append(x)
        return found

    def classify(self, x: Tensor) -> Tensor:
        return self._fc(self(x))
