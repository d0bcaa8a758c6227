"""Fig. 7: two (or more) checkpoints on the same inputs, zoomed; a row for each factor."""

from collections.abc import Sequence
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.report.sheets import sheet, stack
from gcfsr_inference.figures.common import Image, check_range, make_low, save_image
from gcfsr_inference.restore.restorer import Restorer


def ablation(
    restorers: dict[str, Restorer], faces: dict[str, Image], factors: Sequence[float], out: Path
) -> list[Path]:
    """Writes fig7_NAME.png for each face: input, each network, ground truth, crops below.

    Args:
        restorers: label -> generator; all of one output size.
        faces: ground truth images at that size.
        factors: one row each, largest first as in the paper.
        out: folder.

    Raises:
        GCFSRError: the networks' sizes differ, or a factor is out of a network's range.
    """
    sizes = {label: net.out_size for label, net in restorers.items()}
    if len(set(sizes.values())) > 1:
        raise GCFSRError(f"fig7: the checkpoints make different sizes {sizes}; a sheet needs one")
    for net in restorers.values():
        check_range(net, factors, "--factors")
    files = []
    for name, gt in faces.items():
        rows = []
        for factor in sorted(factors, reverse=True):
            low = make_low(gt, factor)
            columns = [(f"input {factor:g}x", low)]
            columns += [(label, net.restore(low, factor)) for label, net in restorers.items()]
            rows.append(sheet([*columns, ("ground truth", gt)], max(gt.shape[0], 192)))
        files.append(save_image(out / f"fig7_{name}.png", stack(rows)))
    return files
