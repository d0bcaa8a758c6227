"""The work of `gcfsr restore`: every input in turn, faults collected, the others done."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_datasets.image_io import MAX_FACE_PIXELS, MAX_PIXELS, Picture, read_image
from gcfsr_datasets.metadata import NO_METADATA, Metadata
from gcfsr_inference.backends.backend import precision_note
from gcfsr_inference.commands import sidecar
from gcfsr_inference.commands.restore_files import Outputs, Source, gather
from gcfsr_inference.commands.restore_messages import describe, progress
from gcfsr_inference.commands.restore_whole import detector_for, open_detector, photo_options, restore_whole
from gcfsr_inference.console import StreamError, say, unexpected_error
from gcfsr_inference.restore.arrays import alpha_at, check_face, network_view
from gcfsr_inference.restore.dial import (
    check_strength,
    parse_levels,
    strength_map,
    strength_of_factor,
    strength_of_fidelity,
)
from gcfsr_inference.restore.restorer import Restorer, Strength
from gcfsr_inference.restore.runner import FaceResult, FaceRunner, Settings
from gcfsr_inference.restore.weights import resolve_checkpoint

REPORT_EVERY = 5.0  # seconds


@dataclass
class Loaded:
    """An input in memory."""

    source: Source
    picture: Picture
    digest: str


class RestoreRun:
    """One call of the command.

    Args:
        args: options of `commands.restore`.

    Raises:
        GCFSRError: whatever is wrong with the options themselves; faults of single inputs are collected.
    """

    def __init__(self, args: Any) -> None:
        self.args = args
        self.past = sidecar.read(args.from_sidecar) if args.from_sidecar else None
        if self.past:
            adopt(args, self.past)
        if not args.input:
            raise GCFSRError("-i: name a picture, a folder or - for standard input")
        self.sources, skipped = gather(args.input, args.recursive, args.output)
        for line in skipped:
            say(line, error=True)
        self.outputs = Outputs(args.output, args.suffix, args.ext, self.sources)
        checkpoint = resolve_checkpoint(args.checkpoint, args.weights_dir)
        self.restorer = Restorer.load(checkpoint, args.device, args.dtype, args.backend, args.compile)
        if note := precision_note(args.backend, args.device, args.dtype):
            say(f"gcfsr: {note}", error=True)
        if self.past:
            expected = self.past["checkpoint_sha256"]
            sidecar.verify(str(self.restorer.path), "the checkpoint", expected, self.restorer.checkpoint_hash)
        photo_options(args)  # raises where one is out of range
        known = args.aligned or (self.past and not self.sources[0].is_video)
        self.detector = None if known else open_detector(args)
        self.mask = read_image(args.s_map).bgr if args.s_map else None
        self.runner = FaceRunner(self.restorer, self._settings())
        self.queue: list[Loaded] = []
        self.failures: list[str] = []
        self.report: list[dict[str, Any]] = []
        self.stored = -math.inf  # when the report was written
        if not self.outputs.to_stdout:
            make_folder(self.outputs.single.parent if self.outputs.single else self.outputs.root, "-o")

    def _settings(self) -> Settings:
        args, factor = self.args, self.args.factor
        if factor != "auto" and not self.restorer.blind:
            strength_of_factor(factor, self.restorer)
        return Settings(factor, self._strength(), args.noise, args.seed, args.report, args.lock, args.draws)

    def _strength(self) -> Strength | None:
        """What --s, -w, --s-levels or --s-map mean; None where the factor decides."""
        args, restorer = self.args, self.restorer
        if args.s is not None:
            return check_strength(args.s)
        if args.w is not None:
            return strength_of_fidelity(args.w, restorer)
        if args.s_levels is not None:
            return parse_levels(args.s_levels, restorer.sizes)
        return None if self.mask is None else self.strengths(Picture(self.mask))

    def run(self) -> int:
        """Restores everything; returns 0, or 2 where an input failed."""
        try:
            with progress(len(self.sources)) as advance:
                for source in self.sources:
                    with self._collecting(source):
                        self._take(source)
                    if len(self.queue) >= self.args.batch:
                        self._flush()
                    advance()
                self._flush()
        finally:
            self._store_report()
        return self._close()

    @contextmanager
    def _collecting(self, source: Source) -> Iterator[None]:
        """Whatever one input raises is that input's failure."""
        try:
            yield
            return
        except (BrokenPipeError, StreamError):
            raise
        except GCFSRError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001 (the others are done all the same)
            text = unexpected_error(error, self.args.debug)
        self.failures.append(text if text.startswith(source.name) else f"{source.name}: {text}")
        self._add_to_report({"input": source.name, "error": text})

    def _take(self, source: Source) -> None:
        if source.path is not None and source.is_video:
            from gcfsr_inference.commands.restore_clip import restore_clip

            restore_clip(self, source, source.path)
            return
        picture, digest = source.read(self.args.max_pixels or (MAX_FACE_PIXELS if self.args.aligned else MAX_PIXELS))
        if self.past:
            sidecar.verify(source.name, "the input", self.past["input"]["sha256"], digest)
        for note in picture.notes:
            self.say(f"{source.name}: {note}")
        loaded = Loaded(source, replace(picture, metadata=self._kept(picture.metadata)), digest)
        self.outputs.check_form(self.outputs.result(source, picture), picture)  # before the work
        if not self.args.aligned:
            restore_whole(self, loaded, detector_for(self, source))
            return
        check_face(picture.bgr, source.name)
        self.strengths(picture)  # raises where the mask has another size
        self.queue.append(loaded)

    def _kept(self, metadata: Metadata) -> Metadata:
        """What `--metadata` leaves of it."""
        if self.args.metadata == "none":
            return NO_METADATA
        return metadata if self.args.metadata == "keep" else metadata.without_place()

    def strengths(self, picture: Picture) -> np.ndarray | None:
        """`--s-map` over a whole picture, (H, W) float32; None without one. Raises GCFSRError for another size."""
        if self.mask is None:
            return None
        lowest = self.restorer.min_factor / self.restorer.max_factor
        return strength_map(self.mask, picture.bgr.shape[:2], lowest, 1.0, self.args.s_map)

    def _flush(self) -> None:
        queue, self.queue = self.queue, []
        if queue:
            self._restore(queue)

    def _restore(self, queue: list[Loaded]) -> None:
        """Restores aligned faces in one pass and writes them; where the pass fails, one by one."""
        try:
            done = self._pass(queue)
        except Exception:
            if len(queue) == 1:
                with self._collecting(queue[0].source):
                    raise
            else:
                for loaded in queue:
                    self._restore([loaded])
            return
        for loaded, face in zip(queue, done, strict=False):
            with self._collecting(loaded.source):
                self._write_aligned(loaded, face)

    def _pass(self, queue: list[Loaded]) -> list[FaceResult]:
        crops = [loaded.picture.bgr for loaded in queue]
        past = self.past["faces"][0] if self.past else {"factor": None, "batch": 1}
        faces = [self.runner.prepare(crop, factor=past["factor"]) for crop in crops] * past["batch"]  # the same pass
        return self.runner.restore_faces(faces)

    def _write_aligned(self, loaded: Loaded, face: FaceResult) -> None:
        source, alpha = loaded.source, loaded.picture.alpha
        alpha = None if alpha is None else alpha_at(alpha, self.restorer.out_size)
        restored = replace(loaded.picture, bgr=face.image, alpha=alpha)
        result = self.outputs.result(source, loaded.picture, number=0)
        digest = self.outputs.write(result, restored)
        self.write_face(source, 0, network_view(loaded.picture.bgr, self.restorer.out_size), face, result)
        self.finish(source, loaded.digest, result, digest, [face.record.as_dict()], aligned=True)

    def write_face(
        self, source: Source, number: int, crop: np.ndarray, face: FaceResult, result: Path | None, mark: str = ""
    ) -> None:
        """Writes what lies beside a restored face (crop, comparison, draws) and states its factor.

        `mark` tells the faces of one result apart where there are no sub-folders.
        """
        outputs = self.outputs
        folders = not (outputs.single or outputs.to_stdout)
        if folders:
            outputs.write(outputs.path("cropped_faces", source, number), Picture(crop))
            outputs.write(outputs.path("cmp", source, number), Picture(np.hstack([crop, face.image])))
        draws = None if outputs.to_stdout else face.draws
        for part, picture in (("_mean", draws.mean), ("_spread", draws.heat)) if draws else ():
            beside = outputs.beside(source, result, f"{mark}{part}.png")
            path = outputs.path("spread", source, number, part=part) if folders else beside
            outputs.write(path, Picture(picture))
        self.say(describe(source.name, number, face.record, self.settings_name()))

    def finish(
        self, source: Source, input_hash: str, output: Path | None, output_hash: str, faces: list[dict[str, Any]],
        aligned: bool,
    ) -> None:  # fmt: skip
        """Stores the report's entry of one input and, if wanted, its sidecar."""
        hashes = input_hash, self.restorer.checkpoint_hash
        content = sidecar.build(self.args, source.path, *hashes, faces, output, output_hash, aligned)
        self._add_to_report({"input": source.name, "output": str(output or "-"), "faces": faces})
        if self.args.sidecar and output is not None:
            self.outputs.write_bytes(output.with_suffix(".json"), sidecar.dump(content))

    def settings_name(self) -> str:
        """How the factor came about, for messages."""
        return "auto" if self.args.factor == "auto" else "given"

    def say(self, line: str) -> None:
        """Prints a line to standard output, or to standard error where the picture goes to the former."""
        say(line, error=self.outputs.to_stdout)

    def _add_to_report(self, entry: dict[str, Any]) -> None:
        """Adds an entry; the file follows at most every few seconds, so that writing it costs little in a large run."""
        self.report.append(entry)
        if time.monotonic() - self.stored > REPORT_EVERY:
            self._store_report()

    def _store_report(self) -> None:
        outputs = self.outputs
        if not self.args.report or outputs.to_stdout or not any("output" in entry for entry in self.report):
            return
        self.stored = time.monotonic()
        path = outputs.beside(self.sources[0], outputs.single, ".report.json")
        outputs.write_bytes(path if outputs.single else outputs.root / "report.json", sidecar.dump(self.report))

    def _close(self) -> int:
        if not self.failures:
            return 0
        if len(self.sources) == 1:
            raise GCFSRError(self.failures[0])
        say(f"gcfsr: error: {len(self.failures)} of {len(self.sources)} inputs failed:", error=True)
        for failure in self.failures:
            say(f"  {failure}", error=True)
        return 2


def adopt(args: Any, past: dict[str, Any]) -> None:
    """Takes over a sidecar's options; -i and --checkpoint given now say where the same files are today."""
    now = {"checkpoint": args.checkpoint}
    for key, value in past["options"].items():
        if key in sidecar.KEPT:
            setattr(args, key, value)
    args.checkpoint = now["checkpoint"] or args.checkpoint
    if not args.input and past["input"]["path"]:
        args.input = [past["input"]["path"]]
    if len(args.input or []) > 1:
        raise GCFSRError("--from-sidecar: one input only")
