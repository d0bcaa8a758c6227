"""`gcfsr sweep`: one face (or several) at several strengths, as a sheet, an animation or a page."""

import argparse

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.common import add_device, add_input, at_least
from gcfsr_inference.console import counted, note

MOST_STEPS = 64  # of a sweep
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".html")
EXAMPLES = """
gcfsr sweep face.png -o sweep.html
gcfsr sweep faces/ -o sheet.png --factors 4:64:9
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Inputs, factors, output; the suffix of the output decides what is made."""
    add = parser.add_argument
    add_input(parser, "aligned faces or folders of them")
    add(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help=".png or .jpg sheet, .gif or .webp animation, .html page with a slider",
    )
    add(
        "--factors",
        help="separated by commas, or FIRST:LAST:COUNT, equal in octaves [the checkpoint's range, doubling]",
    )
    for name, what in (("--deblur", "blur"), ("--denoise", "noise"), ("--dejpeg", "compression")):
        add(name, metavar="A,B,...", help=f"a row for each: how much {what} is removed, in [0, 1] [auto]")
    add("-v", "--version", "--checkpoint", dest="checkpoint", metavar="CHECKPOINT", help="as for restore [gcfsr-256]")
    add("--noise", choices=["fixed", "random", "zero"], default="fixed", help="[fixed]")
    add("--seed", type=int, default=0, help="of the noise [0]")
    add("--max-pixels", type=int, metavar="N", help="largest input [4096x4096]")
    add_device(parser)
    add("--backend", default="torch", help="torch, onnx, openvino [torch]")


def run(args: argparse.Namespace) -> int:
    """Makes the output; factors outside the checkpoint's range are left out with a line that says so."""
    from pathlib import Path

    from gcfsr_datasets.image_io import MAX_FACE_PIXELS
    from gcfsr_inference.commands.restore.files import Outputs, gather
    from gcfsr_inference.commands.restore.plan import check_inputs
    from gcfsr_inference.restore.dial import check_seed
    from gcfsr_inference.restore.weights import resolve_checkpoint

    if not args.input:
        raise GCFSRError("name aligned faces or folders of them: gcfsr sweep face.png -o sweep.html")
    check_seed(args.seed)
    kind = Path(args.output).suffix.lower()
    if kind not in KINDS:
        raise GCFSRError(f"-o {args.output}: the name must end in one of {', '.join(KINDS)}")
    wanted = parse_factors(args.factors) if args.factors else None
    sources, skipped = gather(args.input)
    for line in skipped:
        note(line, error=True)
    outputs = Outputs(args.output, None, "auto", sources, joint=True)
    checkpoint = resolve_checkpoint(args.checkpoint)
    max_pixels = at_least("--max-pixels", args.max_pixels, 1) or MAX_FACE_PIXELS
    check_inputs(sources, max_pixels)

    from gcfsr_inference.commands.network import open_restorer
    from gcfsr_inference.figures.sweep import animation, page, sheet, sweep
    from gcfsr_inference.restore.arrays import check_face

    restorer = open_restorer(checkpoint, args.device, backend=args.backend)
    factors = served(wanted or doublings(restorer.min_factor, restorer.max_factor), restorer)
    rows = settings(args, restorer.conditions)
    found = []
    for source in sources:
        image, _ = source.read(max_pixels)
        check_face(image.bgr, source.name)
        name = source.stem.name
        found += [sweep(restorer, image.bgr, factors, name, args.noise, args.seed, dials) for dials in rows]
    largest = restorer.max_factor
    if kind == ".html":
        outputs.write_bytes(Path(args.output), page(found, largest))
    elif kind in (".gif", ".webp"):
        outputs.write_bytes(Path(args.output), animation(found, largest, kind[1:].upper()))
    else:
        from gcfsr_datasets.image_io import ImageData

        outputs.write(Path(args.output), ImageData(sheet(found, largest)))
    steps = counted(len(factors), "step") + (f" at {len(rows)} settings" if len(rows) > 1 else "")
    for one in found[:: len(rows)]:
        note(f"{one.name}: estimated factor {one.estimate:.3g}; {steps} -> {args.output}")
    return 0


def parse_factors(text: str) -> list[float]:
    """`4,8,16` or `4:64:9` (nine steps from 4 to 64, equal in octaves).

    Raises:
        GCFSRError: neither of these.
    """
    try:
        if ":" in text:
            ends, steps = text.split(":")[:-1], int(text.split(":")[-1])
            first, last = map(float, ends)
            if not (1 <= first <= 1024 and 1 <= last <= 1024 and 2 <= steps <= MOST_STEPS):
                raise ValueError
            return [round(first * (last / first) ** (k / (steps - 1)), 3) for k in range(steps)]
        factors = [float(part) for part in text.split(",")]
        if len(factors) > MOST_STEPS:
            raise ValueError
        return factors
    except ValueError:
        raise GCFSRError(
            f"--factors {text[:60]!r}: numbers from 1 to 1024 separated by commas, or FIRST:LAST:COUNT, "
            f"{MOST_STEPS} at most"
        ) from None


def settings(args: argparse.Namespace, conditions: tuple[str, ...]) -> list[dict[str, float]]:
    """The rows of a sheet: every setting of the dial that is given, or one row where none is.

    Raises:
        GCFSRError: two dials are given, the checkpoint has no such dial, or a value is not a number in [0, 1].
    """
    from gcfsr_inference.restore.dial import DIALS, parse_dial

    given = [option for option in DIALS if getattr(args, option) is not None]
    if len(given) > 1:
        raise GCFSRError(f"--{given[0]} and --{given[1]}: a sheet has rows for one of them")
    for option in given:
        if DIALS[option] not in conditions:
            raise GCFSRError(f"--{option}: this checkpoint has no dial for it; it has {', '.join(conditions)}")
        values = [parse_dial(f"--{option}", part) for part in getattr(args, option).split(",")]
        if any(not isinstance(value, float) for value in values):
            raise GCFSRError(f"--{option} {getattr(args, option)}: numbers in [0, 1] separated by commas")
        return [{DIALS[option]: value} for value in values if isinstance(value, float)]
    return [{}]


def doublings(low: float, high: float) -> list[float]:
    """low, 2 low, 4 low, ... up to high."""
    factors = [low]
    while factors[-1] * 2 <= high:
        factors.append(factors[-1] * 2)
    return factors


def served(factors: list[float], restorer) -> list[float]:
    """The factors in the checkpoint's range; says which were left out. Raises GCFSRError where none is left."""

    low, high = restorer.min_factor, restorer.max_factor
    kept = [factor for factor in factors if low <= factor <= high]
    left = [f"{factor:g}" for factor in factors if factor not in kept]
    if restorer.blind:
        raise GCFSRError("this checkpoint is blind: it has no dial to sweep")
    if not kept:
        raise GCFSRError(f"--factors {', '.join(left)}: this checkpoint serves {low:g} to {high:g}")
    if left:
        note(f"left out factors {', '.join(left)}: this checkpoint serves {low:g} to {high:g}", error=True)
    return kept
