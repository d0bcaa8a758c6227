"""What `gcfsr restore` can find wrong before it loads torch, which takes seconds: inputs, outputs and named files."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import check_file
from gcfsr_datasets.image_io import MAX_FACE_PIXELS, MAX_PIXELS
from gcfsr_inference.commands.restore.files import Outputs, Source, gather
from gcfsr_inference.commands.restore.manifest import share
from gcfsr_inference.console import note
from gcfsr_inference.restore.weights import resolve_checkpoint


@dataclass(frozen=True)
class Plan:
    """What a call of `gcfsr restore` will do.

    Attributes:
        args: the options of `gcfsr restore`, with those of a sidecar.
        past: the sidecar to repeat, or None.
        sources: the inputs.
        outputs: where results go.
        checkpoint: the network's file.
        part: (i, n): this process does the i-th of n shares of the inputs; None: all of them.
    """

    args: Namespace
    past: dict[str, Any] | None
    sources: list[Source]
    outputs: Outputs
    checkpoint: Path
    part: tuple[int, int] | None


def plan(args: Namespace) -> Plan:
    """Checks the files that the options name.

    Raises:
        GCFSRError: no input can be read, the output cannot be written so, or a file that an option names is missing.
    """
    past = None
    if args.from_sidecar:
        from gcfsr_inference.commands.restore import sidecar

        args, past = sidecar.adopt(args, sidecar.read(args.from_sidecar))
    args = Namespace(**{**vars(args), "factor": args.factor or "auto"})
    if not args.input:
        raise GCFSRError("name an image, a folder or - for standard input: gcfsr restore photo.jpg")
    sources, skipped = gather(args.input, args.recursive, args.output)
    for line in skipped:
        note(line, error=True)
    read = [path for path in (args.s_map, args.landmarks) if path is not None]
    outputs = Outputs(args.output, args.suffix, args.ext, sources, read=read)
    if args.sidecar and outputs.single:
        outputs.check(outputs.single.with_suffix(".json"))
    part = share(args)
    several = args.skip_existing or args.jobs > 1 or part
    if several and (outputs.single or outputs.to_stdout):
        raise GCFSRError(f"-o {args.output}: --skip-existing, --jobs and --shard need a folder")
    if min(args.jobs, len(sources)) > 1 and any(source.path is None for source in sources):
        raise GCFSRError("-: standard input is not for several processes; leave out --jobs, or name a file")
    for path in read:
        check_file(path)
    if args.embedding and Path(args.embedding.partition("?")[0]).suffix:  # a file, not the name of a metric
        check_file(args.embedding.partition("?")[0])
    checkpoint = resolve_checkpoint(args.checkpoint, args.weights_dir)
    check_inputs(sources, most_pixels(args))
    return Plan(args, past, sources, outputs, checkpoint, part)


def check_inputs(sources: Sequence[Source], max_pixels: int) -> None:
    """Raises the first input's GCFSRError where no input is a file, or where the only one is not an image.

    Where some can be read, the others' errors are reported when their turn comes.
    """
    if len(sources) == 1 or (sources and not any(source.path is None or source.path.is_file() for source in sources)):
        sources[0].check(max_pixels)


def most_pixels(args: Namespace) -> int:
    """The largest image that is read."""
    return args.max_pixels or (MAX_FACE_PIXELS if args.aligned else MAX_PIXELS)
