"""GCFSR for spandrel (chaiNNer and others): `register()` once, then `spandrel.ModelLoader` knows our checkpoints.

The network itself is in `gcfsr_arch`; this module recognises and calls it.
"""

from typing import Any

import torch
from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, SizeRequirements
from torch import Tensor

from gcfsr_arch import GCFSR
from gcfsr_arch.checkpoint import fit, infer_config

DEFAULT_S = 0.25


class GCFSRArch(Architecture[GCFSR]):
    """Recognises ours and the released form by their keys; arguments are read from the tensors' shapes.

    Aligned faces go in and come out at the network's size, RGB in [0, 1].

    Args:
        s: the dial for every image, in [0, 1]. Not a factor: spandrel hands over tensors only, without the file's
            metadata that says which factor s = 1 stands for.
    """

    def __init__(self, s: float = DEFAULT_S) -> None:
        super().__init__(id="GCFSR", detect=lambda state: infer_config(state) is not None)
        self.s = s

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[GCFSR]:
        """The descriptor of a state dict for which `detect` is true."""
        config = infer_config(state_dict)
        assert config is not None
        net = GCFSR(**config.to_dict()).eval()
        fit(net, state_dict)
        size = net.out_size
        return ImageModelDescriptor(
            net,
            net.state_dict(),
            architecture=self,
            purpose="FaceSR",
            tags=[f"{size}px", config.variant],
            supports_half=False,
            supports_bfloat16=True,
            scale=1,
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(minimum=size, multiple_of=size, square=True),
            call_fn=self.call,
        )

    @torch.inference_mode()
    def call(self, net: GCFSR, image: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [0, 1] -> the same, restored at `s` with fixed noise."""
        return ((net(image * 2 - 1, None if net.blind else self.s, "fixed") + 1) / 2).clamp(0, 1)


def register(s: float = DEFAULT_S) -> None:
    """Adds GCFSR to spandrel's main registry; a second call changes nothing."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(GCFSRArch(s)), ignore_duplicates=True)
