"""GCFSR for spandrel (chaiNNer and others): `register()` once, then `spandrel.ModelLoader` knows our checkpoints.

The network itself is in `gcfsr_arch`; this module recognises and calls it. `integrations/spandrel` makes of both what
spandrel's own repository would hold.
"""

from spandrel import Architecture, ImageModelDescriptor, ModelTiling, SizeRequirements, StateDict
from torch import Tensor
from typing_extensions import override

from gcfsr_arch.generator import GCFSR
from gcfsr_arch.state_dict import fit, infer_config

DEFAULT_S = 0.25


class GCFSRArch(Architecture[GCFSR]):
    """Recognises ours and the released form by their keys; arguments are read from the tensors' shapes.

    Aligned faces go in and come out at the network's size, RGB in [0, 1]. Larger images are taken as several faces side
    by side, because spandrel's interface allows any multiple of the size.

    Args:
        s: the dial for every image, in [0, 1]. Not a factor: spandrel hands over tensors only, without the file's
            metadata with the factor of s = 1.
    """

    def __init__(self, s: float = DEFAULT_S) -> None:
        super().__init__(id="GCFSR", detect=lambda state: infer_config(dict(state)) is not None)
        self.s = s

    @override
    def load(self, state_dict: StateDict) -> ImageModelDescriptor[GCFSR]:
        """The descriptor of a state dict for which `detect` is true."""
        config = infer_config(dict(state_dict))
        assert config is not None
        net = GCFSR(**config.to_dict())
        fit(net, dict(state_dict))
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
            tiling=ModelTiling.DISCOURAGED,
            call_fn=self.call,
        )

    def call(self, model: GCFSR, image: Tensor) -> Tensor:
        """(N, 3, k S, k S) RGB in [0, 1] -> the same, each S x S tile restored at `s` with fixed noise."""
        batch, channels, height, _ = image.shape
        size = model.out_size
        tiles = image.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)  # (N, k, k, 3, S, S)
        features = model.encode(tiles.reshape(-1, channels, size, size) * 2 - 1)
        out = model.decode(features, None if model.blind else model.at_factor(features, self.s), "fixed")
        rows = out.view(batch, height // size, -1, channels, size, size).permute(0, 3, 1, 4, 2, 5)
        return (rows.reshape(image.shape) + 1) / 2


def register(s: float = DEFAULT_S) -> None:
    """Adds GCFSR to spandrel's main registry; a second call changes nothing."""
    from spandrel import MAIN_REGISTRY, ArchSupport

    MAIN_REGISTRY.add(ArchSupport.from_architecture(GCFSRArch(s)), ignore_duplicates=True)
