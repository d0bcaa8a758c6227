"""What one call of `gcfsr restore` works with, made from its options, and one input loaded."""

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_arch.devices import choose_device
from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import ImageData, read_image
from gcfsr_datasets.image_io.metadata import NO_METADATA, Metadata
from gcfsr_inference.commands.network import open_restorer
from gcfsr_inference.commands.restore import sidecar
from gcfsr_inference.commands.restore.files import Source
from gcfsr_inference.commands.restore.plan import Plan, most_pixels
from gcfsr_inference.console import note
from gcfsr_inference.evaluation.metric_weights import availability
from gcfsr_inference.photo.background import TILE
from gcfsr_inference.photo.detect import LandmarkFile, build_detector, find_detector
from gcfsr_inference.photo.detect.detection import Detector
from gcfsr_inference.photo.photograph import PhotoOptions
from gcfsr_inference.restore.arrays import to_depth, unit_bgr
from gcfsr_inference.restore.dial import (
    DIALS,
    check_strength,
    parse_levels,
    strength_map,
    strength_of_factor,
    strength_of_fidelity,
)
from gcfsr_inference.restore.restorer import Restorer, Setting
from gcfsr_inference.restore.runner import FaceRunner, Settings
from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.measures import Case, Measure

IDENTITY = ("arcface", "mobilefacenet", "dlib")  # metrics of `gcfsr evaluate` that are cosines of embeddings


@dataclass(frozen=True)
class RestoreRun(Plan):
    """A plan and what it names, opened.

    Attributes:
        runner: restores faces.
        detector: finds faces; None where inputs are aligned or the sidecar lists their faces.
        mask: `--s-map`, (H, W[, C]) uint8 or uint16, or None.
        embedding: `--embedding`, or None.
    """

    runner: FaceRunner
    detector: Detector | None
    mask: np.ndarray | None
    embedding: Measure | None

    @property
    def origin(self) -> str:
        """How factors come about, for messages."""
        return "auto" if self.args.factor == "auto" else "given"

    def say(self, line: str) -> None:
        """Prints a line to standard output, or to standard error where the image goes to standard output."""
        note(line, error=self.outputs.to_stdout)

    def identity(self, given: np.ndarray, result: np.ndarray) -> dict[str, float]:
        """The entry of a face in the report: cosine of the embeddings of input and result, (S, S, 3) BGR, aligned."""
        if self.embedding is None:
            return {}
        before, after = (to_depth(unit_bgr(image), np.uint8) for image in (given, result))
        (cosine,) = self.embedding([Case(after, before, before)])
        return {} if cosine is None else {"identity": round(float(cosine), 4)}

    def strengths(self, image: np.ndarray) -> np.ndarray | None:
        """`--s-map` over a whole image, (H, W) float32; None without one. Raises GCFSRError for another size."""
        return None if self.mask is None else strengths_of(self.mask, image, self.runner.restorer, self.args.s_map)


@dataclass(frozen=True)
class Loaded:
    """An input in memory; `digest` is the SHA-256 of its bytes."""

    source: Source
    image: ImageData
    digest: str


@dataclass(frozen=True)
class Restored:
    """The outcome of one input: the result's file (None is standard output), hashes, and an entry for each face."""

    source: Source
    input_hash: str
    output: Path | None
    output_hash: str
    faces: list[dict[str, Any]]
    aligned: bool = False


def open_run(plan: Plan) -> RestoreRun:
    """Opens what a plan names.

    Raises:
        GCFSRError: an option is invalid.
    """
    past = plan.past
    args = Namespace(**{**vars(plan.args), "device": choose_device(plan.args.device, plan.args.backend)})
    restorer = open_restorer(plan.checkpoint, args.device, args.dtype, args.backend, args.compile)
    if past:
        sidecar.verify(str(restorer.path), "the checkpoint", past["checkpoint_sha256"], restorer.checkpoint_hash)
    photo_options(args)  # raises where one is out of range
    known = args.aligned or (past and not plan.sources[0].is_video)
    if not (known or args.landmarks):
        detector = args.detector or find_detector(args.weights_dir)  # a video's sidecar must name it
        args = Namespace(**{**vars(args), "detector": detector})
    detector = None if known else open_detector(args)
    mask = read_image(args.s_map, most_pixels(args)).bgr if args.s_map else None
    runner = FaceRunner(restorer, settings_of(args, restorer, mask))
    opened = replace(plan, args=args)
    return RestoreRun(**vars(opened), runner=runner, detector=detector, mask=mask, embedding=open_embedding(args))


def open_embedding(args: Namespace) -> Measure | None:
    """The measure of identity that `--embedding` names.

    Raises:
        GCFSRError: no such file or metric, one that is not a cosine of embeddings, or its weights are missing.
    """
    if not args.embedding:
        return None
    entry = entry_of(args.embedding if args.embedding in IDENTITY else f"cosine:{args.embedding}")
    path, status = availability(entry, args.weights_dir)
    if status != "ok":
        raise GCFSRError(f"--embedding {args.embedding}: {status}")
    return entry.make(path, args.device)


def settings_of(args: Namespace, restorer: Restorer, mask: np.ndarray | None) -> Settings:
    """The command's options as the runner's settings."""
    if args.factor != "auto" and not restorer.blind:
        strength_of_factor(args.factor, restorer)  # raises where it is out of range
    strength = strength_of(args, restorer, mask)
    dials = {name: getattr(args, option) for option, name in DIALS.items() if getattr(args, option, None) is not None}
    for option, name in DIALS.items():
        if name in dials and name not in restorer.conditions[1:]:
            raise GCFSRError(f"--{option}: this checkpoint has no dial for it; it has {', '.join(restorer.conditions)}")
    blend = args.blend if args.aligned else 1.0
    return Settings(args.factor, strength, dials, args.noise, args.seed, args.report, args.lock, args.draws, blend)


def strength_of(args: Namespace, restorer: Restorer, mask: np.ndarray | None) -> Setting | None:
    """What --s, -w, --s-levels or --s-map mean; None where the factor decides."""
    if args.s is not None:
        return check_strength(args.s)
    if args.w is not None:
        return strength_of_fidelity(args.w, restorer)
    if args.s_levels is not None:
        return parse_levels(args.s_levels, restorer.sizes)
    return None if mask is None else strengths_of(mask, mask, restorer, args.s_map)


def strengths_of(mask: np.ndarray, image: np.ndarray, restorer: Restorer, name: str) -> np.ndarray:
    """A mask over an image as strengths in the checkpoint's range, (H, W) float32."""
    return strength_map(mask, image.shape[:2], restorer.min_factor / restorer.max_factor, 1.0, name)


def open_detector(args: Namespace) -> Detector:
    """The detector that the options name.

    Raises:
        GCFSRError: an unknown one, missing weights, a confidence out of range, or a file without landmarks.
    """
    if args.landmarks:
        if args.detector not in (None, "landmarks"):
            raise GCFSRError("--detector and --landmarks: both say where the faces are; give one of them")
        return LandmarkFile(Path(args.landmarks))
    if args.detector == "landmarks":
        raise GCFSRError("--detector landmarks: name the JSON file that holds them with --landmarks")
    return build_detector(args.detector, args.weights_dir, args.confidence, args.device)


def photo_options(args: Namespace) -> PhotoOptions:
    """The command's options as the photograph's."""
    return PhotoOptions(
        faces="center" if args.only_center_face else args.faces,
        min_face=args.min_face,
        match_color=args.match_color,
        agreement=args.agreement,
        only_gains=not args.always,
        grain=args.grain,
        blend=args.blend,
        upscale=args.upscale,
        background=args.bg_upsampler,
        weights=args.weights_dir,
        tile=args.bg_tile or TILE,
        batch=args.batch,
    )


def load(run: RestoreRun, source: Source) -> Loaded:
    """Reads one image and checks that its result can be written.

    Raises:
        GCFSRError: the input is not an image, is too large or is not the sidecar's, or the output's format cannot hold
            it.
    """
    args = run.args
    image, digest = source.read(most_pixels(args))
    if run.past:
        sidecar.verify(source.name, "the input", run.past["input"]["sha256"], digest)
    for remark in image.notes:
        run.say(f"{source.name}: {remark}")
    run.outputs.check_form(run.outputs.result(source, image), image)
    return Loaded(source, replace(image, metadata=kept_metadata(image.metadata, args.metadata)), digest)


def kept_metadata(metadata: Metadata, option: str) -> Metadata:
    """What `--metadata` (keep, no-gps, none) leaves of it."""
    if option == "none":
        return NO_METADATA
    return metadata if option == "keep" else metadata.without_place()
