"""The authors' names in BasicSR's registries, each a thin adapter to ours; `released_options` holds what they mean."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.training.model import GCFSRModel
from gcfsr_arch.training.released_options import dataset_options, our_options
from gcfsr_datasets.dataset_options import FaceOptions
from gcfsr_datasets.image_io import decode_bgr, list_images, read_bytes
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.picture_source import open_source
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

    The authors' blocks name no `out_size`; a training gives it the network's, elsewhere the first picture's counts.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(dataset_options(opt, None if opt.get("out_size") else first_side(opt)))


def first_side(opt: dict[str, Any]) -> int:
    """The side in pixels of a data set's first picture."""
    source = open_source(FaceOptions(opt["dataroot_gt"], 1, io_backend=opt["io_backend"]))
    return decode_bgr(source.read(0), source.names[0]).shape[0]


class SingleImage_GT_Dataset(Dataset[dict[str, Any]]):
    """`type: SingleImage_GT_Dataset`: small pictures without a truth, for validation.

    Args:
        opt: `dataroot_lq` (a folder of square pictures), `out_size`, `cond_norm`; optional `meta_info_file` (one name a
            line). Each picture is resized to `out_size` and rounded to 8 bits as in training; its factor is out_size /
            its size, s = factor / cond_norm.

    Raises:
        GCFSRError: the folder is missing or empty; on reading, a picture is damaged, not square or too large.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.out_size, self.max_factor = int(opt["out_size"]), float(opt["cond_norm"])
        root, names = Path(opt["dataroot_lq"]), opt.get("meta_info_file")
        if names is None:
            self.paths = list_images(root)
        else:
            self.paths = [root / line.split(" ")[0] for line in Path(names).read_text(encoding="utf-8").splitlines()]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = str(self.paths[index])
        bgr = decode_bgr(read_bytes(path), path)
        height, width = bgr.shape[:2]
        if height != width or width > self.out_size:
            raise GCFSRError(f"{path}: {width}x{height} pixels; it must be square and at most {self.out_size} wide")
        grown = resize(bgr.astype(np.float32) / 255, (self.out_size, self.out_size))
        rounded = np.clip(np.rint(grown * 255), 0, 255) / 255  # (S, S, 3) BGR in [0, 1]
        lq = torch.from_numpy(np.ascontiguousarray(rounded[..., ::-1].transpose(2, 0, 1), np.float32)) * 2 - 1
        factor = self.out_size / width
        s = torch.tensor(factor / self.max_factor, dtype=torch.float32)
        return {"lq": lq, "s": s, "factor": factor, "lq_path": path}  # lq (3, S, S) RGB in [-1, 1]
