"""The authors' names in BasicSR's registries, each a thin adapter to ours; `options.released` holds what they mean."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.training.model import GCFSRModel
from gcfsr_arch.training.options.released import dataset_options, our_options
from gcfsr_datasets.dataset_options import FaceOptions
from gcfsr_datasets.degradation import to_8bit
from gcfsr_datasets.face_dataset import to_planes
from gcfsr_datasets.image_io import decode_bgr
from gcfsr_datasets.image_source import ImageSource, open_source
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.resize import resize


class GCFSR_Model(GCFSRModel):
    """`model_type: GCFSR_Model`: our trainer on the authors' option files; `type: GCFSR` is the released form here."""

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(our_options(opt))


def GCFSR_blind(out_size: int, **arguments: Any) -> GCFSR:
    """`type: GCFSR_blind`: the released form with s fixed at 1. Arguments as for `GCFSR`."""
    return GCFSR(out_size, variant="released", blind=True, **arguments)


def StyleGAN2Discriminator_no_std(out_size: int, **arguments: Any) -> GCFSRDiscriminator:
    """`type: StyleGAN2Discriminator_no_std`: without the standard deviation over the batch."""
    return GCFSRDiscriminator(out_size, minibatch_std=False, **arguments)


class FFHQ_control_Dataset(MultiFactorDegradationDataset):
    """`type: FFHQ_control_Dataset`: factors drawn from `downsample_list`, s = factor / `cond_norm`.

    The authors' blocks name no `out_size`; a training gives it the network's, elsewhere the first image's.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(dataset_options(opt, None if opt.get("out_size") else first_side(opt)))


def first_side(opt: dict[str, Any]) -> int:
    """The side in pixels of a data set's first image."""
    source = images_of(opt, opt["dataroot_gt"])
    return decode_bgr(source.read(0), source.names[0]).shape[0]


def images_of(opt: dict[str, Any], root: str) -> ImageSource:
    """The images of a block of `datasets:`."""
    backend = opt.get("io_backend") or {"type": "disk"}
    return open_source(FaceOptions(root, 1, io_backend=backend, meta_info_file=opt.get("meta_info_file")))


class SingleImage_GT_Dataset(Dataset[dict[str, Any]]):
    """`type: SingleImage_GT_Dataset`: small images without ground truth, for validation.

    Args:
        opt: `dataroot_lq` (a folder or LMDB of square images), `out_size`, `cond_norm`; optional `io_backend` and
            `meta_info_file` (one name a line). Each image is resized to `out_size` and rounded to 8 bits; its factor
            is out_size / its size, s = factor / cond_norm.

    Raises:
        GCFSRError: the folder or list is missing or empty; on reading, an image is damaged, not square or too large.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.out_size, self.max_factor = int(opt["out_size"]), float(opt["cond_norm"])
        self.source = images_of(opt, opt["dataroot_lq"])

    def __len__(self) -> int:
        return len(self.source.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.source.names[index]
        bgr = decode_bgr(self.source.read(index), path)
        height, width = bgr.shape[:2]
        if height != width or width > self.out_size:
            raise GCFSRError(f"{path}: {width}x{height} pixels; it must be square and at most {self.out_size} wide")
        grown = resize(bgr.astype(np.float32) / 255, (self.out_size, self.out_size))
        lq = torch.from_numpy(to_planes(to_8bit(grown, 0.0)))  # (3, S, S) RGB in [-1, 1]
        factor = self.out_size / width
        s = torch.tensor(factor / self.max_factor, dtype=torch.float32)
        return {"lq": lq, "s": s, "factor": factor, "lq_path": path}
