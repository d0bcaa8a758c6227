"""`gcfsr check-data`: decodes every image of a data set and lists everything that training would trip over."""

import argparse
import os

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import counted, note, say

EXAMPLES = """
gcfsr check-data ffhq/ --out-size 1024 --batch 24
gcfsr check-data ffhq.lmdb
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.add_argument("folder", help="folder of aligned faces (with its subfolders), or an LMDB (*.lmdb)")
    parser.add_argument("--out-size", type=int, metavar="N", help="the training's out_size; without it only: square")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images in a batch of all devices together")
    parser.add_argument("--resize-gt", action="store_true", help="larger images are fine, as resize_gt: true has it")


def run(args: argparse.Namespace) -> None:
    """Prints one line for each fault.

    Raises:
        GCFSRError: there are faults.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # the faults are ours to list; read when OpenCV is imported

    from gcfsr_datasets.check import check_folder

    report = check_folder(args.folder, args.out_size, args.batch, args.resize_gt)
    if not report.faults:
        note(f"{args.folder}: {counted(report.checked, 'image')}, all valid")
        return
    for fault in report.faults:
        say(fault, error=True)
    faults, images = counted(len(report.faults), "fault"), counted(report.checked, "image")
    raise GCFSRError(f"{args.folder}: {faults} in {images}")
