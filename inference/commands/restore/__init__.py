"""`gcfsr restore`: faces in images, folders, photographs or videos."""

import argparse

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.common import MOST, add_device, add_input, at_least

BACKGROUNDS = ("none", "bicubic", "lanczos", "realesrgan")
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25", "yunet")
EXAMPLES = """
gcfsr restore photo.jpg                          # -> results/restored_imgs/photo.jpg
gcfsr restore photos/ clip.mp4 -o out/
gcfsr restore face.png -o restored.png --aligned --factor 8
gcfsr restore old.jpg -o out/ --factor 4 --blend 0.7 --report
gcfsr restore @list.txt -o out/ --skip-existing --jobs 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; GFPGAN's and CodeFormer's names where they have one."""
    add, group = parser.add_argument, parser.add_argument_group
    add_input(parser, "images, folders, videos, patterns, @list.txt with one input a line, or - for standard input")
    add("-o", "--output", default="results", metavar="OUT",
        help="folder, a file's name (for one input), or - for standard output [the folder results, here]")  # fmt: skip
    add("-v", "--version", "--checkpoint", dest="checkpoint", metavar="CHECKPOINT",
        help="checkpoint: a file, a bundled name, or a name in the weights folder [gcfsr-256]")  # fmt: skip
    add("--aligned", action="store_true", help="inputs are aligned faces, not photographs")
    add("--recursive", action="store_true", help="also the folders below an input folder")
    add("--suffix", help="put behind the results' names")
    add("--ext", default="auto", help="auto (as the input for whole images, png for faces), png, jpg, webp, tiff, bmp")
    add("--metadata", choices=["keep", "no-gps", "none"], default="keep",
        help="of whole images and videos: EXIF, titles, ...; no-gps drops where it was taken, none all but languages "
        "[keep]")  # fmt: skip
    add("--max-pixels", type=int, metavar="N", help="largest input [100 million; with --aligned 4096x4096]")
    add_device(parser)
    add("--batch", type=int, default=1, help="faces restored at a time [1]")
    add("--from-sidecar", metavar="JSON", help="run again as a sidecar says, same bytes; a dial given too replaces its")
    _add_dial(group("the dial"))
    _add_outputs(group("what is measured and stored"))
    _add_photo(group("photographs"))
    _add_bulk(group("many images"))
    _add_engine(group("how it runs"))


def _add_dial(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--factor", help="upscaling factor in the checkpoint's range, or auto: from the image [auto]")
    add("--s", type=float, help="strength in [0, 1] itself: factor / the checkpoint's largest")
    add(
        "-w",
        type=float,
        help="CodeFormer's fidelity, 1 = faithful: s = 1 - w, stretched over the checkpoint's range of s",
    )
    add("--s-map", metavar="MASK", help="strength by place: black is the least, white the most; size of the image")
    add("--s-levels", metavar="A,B,...", help="strength by level, from 16 pixels up")
    for name, what in (("--deblur", "blur"), ("--denoise", "noise"), ("--dejpeg", "compression")):
        add(name, metavar="X", help=f"how much {what} is removed, in [0, 1], or auto: as much as the face has [auto]")
    add("--blend", type=float, default=1.0, metavar="B", help="between the input (0) and the result (1) [1]")
    add("--noise", choices=["fixed", "random", "zero"], default="fixed", help="[fixed]; random differs by image")
    add("--seed", type=int, default=0, help="of the noise [0]; the same command gives the same bytes")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--report", action="store_true", help="compare each result, shrunk by its factor, with its input; report.json")
    add("--embedding", metavar="FILE",
        help="with --report: identity cosine between input and result, by FILE.onnx[?norm=half] of 112x112 RGB, or by "
        "arcface, mobilefacenet or dlib as in gcfsr evaluate")  # fmt: skip
    add("--lock", action="store_true", help="project each result back so that it agrees with its input to 0.5/255")
    add("--draws", type=int, default=0, metavar="N", help="mean and heat map of the spread over N noise draws")
    add("--sidecar", action="store_true", help="write a JSON beside each result from which it can be made again")


def _add_photo(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("-s", "--upscale", type=float, default=1.0, help="size of the whole image over the input's [1]")
    add("--bg_upsampler", default="none", help=f"how the rest is enlarged: {', '.join(BACKGROUNDS)} [none]")
    add("--bg_tile", type=int, help="realesrgan: pixels enlarged at a time [400]")
    add("--only_center_face", action="store_true", help="only the face nearest to the middle")
    add("--faces", default="all", help="all, largest, center, or numbers from left to right such as 0,2 [all]")
    add("--min-face", type=float, default=20.0, metavar="PIXELS", help="smaller ones are left [20]")
    add("--detector", help=f"{', '.join(DETECTORS)} [the first whose weights are available]")
    add("--confidence", type=float, help="least score of a face in [0.05, 1]")
    add("--landmarks", metavar="JSON", help="faces given by hand instead of a detector: five points each")
    add("--weights-dir", metavar="FOLDER", help="where weights lie, of detectors and your own; also $GCFSR_WEIGHTS")
    add("--match-color", action=argparse.BooleanOptionalAction, default=True,
        help="give each restored face the colours of its input, and its tone [on]")  # fmt: skip
    add("--agreement", type=float,
        help="how far a face is brought back to what its input shows, 0 to 1 [large clean 1, else 0.5]")  # fmt: skip
    add("--always", action="store_true", help="paste restored faces also where they gain nothing")
    add("--grain", type=float, default=0.0, help="how much grain stays in restored faces, 0 to 1 [0]")


def _add_bulk(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--skip-existing", action="store_true",
        help="leave out what an earlier run into this folder made of the same bytes by the same settings")  # fmt: skip
    add("--jobs", type=int, default=1, metavar="N", help="processes, each with its part of the threads or its GPU [1]")
    add("--shard", metavar="I/N", help="only the I-th of N shares; also from a launcher's RANK and WORLD_SIZE")


def _add_engine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--dtype", choices=["fp32", "bf16"], default="fp32", help="bf16 is faster where the device has it [fp32]")
    add("--backend", default="torch", help="torch, onnx, openvino [torch]")
    add("--compile", action="store_true", help="torch.compile: slow start, then faster")


def unused(args: argparse.Namespace) -> list[str]:
    """The options of photographs that were given and do nothing for aligned faces."""
    photo = argparse.ArgumentParser()
    _add_photo(photo)
    given = vars(args)
    actions = [action for action in photo._actions if action.dest in given and action.dest != "weights_dir"]
    return [action.option_strings[-1] for action in actions if given[action.dest] != action.default]


def run(args: argparse.Namespace) -> int:
    """Checks the options that exclude each other, then restores."""
    from gcfsr_inference.commands.restore.plan import plan
    from gcfsr_inference.console import note
    from gcfsr_inference.restore.dial import DIALS, check_blend, check_seed, parse_dial, parse_factor

    args.factor = None if args.factor is None else parse_factor(args.factor)
    dials = {"--s": args.s, "-w": args.w, "--s-map": args.s_map, "--s-levels": args.s_levels}
    given = ["--factor"] if args.factor not in (None, "auto") else []
    given += [name for name, value in dials.items() if value is not None]
    if len(given) > 1:
        raise GCFSRError(f"{given[0]} and {given[1]}: both set the dial; give one of them")
    for name in DIALS:
        setattr(args, name, parse_dial(f"--{name}", getattr(args, name)))
    check_seed(args.seed)
    check_blend(args.blend)
    if args.embedding and not args.report:
        raise GCFSRError("--embedding: its cosine is part of the report; add --report")
    for name, least, most in (("batch", 1, 4096), ("draws", 0, 1000), ("max_pixels", 1, MOST), ("jobs", 1, 1024)):
        at_least(f"--{name.replace('_', '-')}", getattr(args, name), least, most)
    if args.only_center_face and args.faces != "all":
        raise GCFSRError("--only_center_face and --faces: both choose faces; give one of them")
    if args.aligned and (names := unused(args)):
        note(f"{', '.join(names)}: for photographs; not used with --aligned", error=True)
    todo = plan(args)
    todo.args.jobs = min(args.jobs, len(todo.sources))
    if todo.args.jobs > 1:
        from gcfsr_inference.commands.restore.jobs import restore_jobs

        return restore_jobs(todo)

    from gcfsr_inference.commands.restore.loop import restore

    return restore(todo)
