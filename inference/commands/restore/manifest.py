"""The manifest of a large run: one JSON line per input, written during the run; another run resumes from it."""

import hashlib
import json
import os
import re
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import check_file, write_atomic
from gcfsr_inference.commands.restore import sidecar
from gcfsr_inference.commands.restore.files import Source
from gcfsr_inference.console import counted, note
from gcfsr_inference.documents import Name, Part, read_document
from gcfsr_inference.restore.hashes import file_hash

NAME = "manifest.jsonl"
SHARE = re.compile(r"manifest\.(\d+)-of-(\d+)\.jsonl")
REPORT, REPORT_SHARE = "report.json", re.compile(r"report\.(\d+)-of-\d+\.json")
LONGEST_REPORT = 1 << 30  # bytes: of a million faces
EVERY = 10.0  # seconds between two lines about the speed


class Manifest:
    """Appends a line for each input to a folder's manifest, and knows which inputs need no work.

    A line holds `input`, `sha256` of its bytes, `settings` (a hash of all that decides the result), `seconds`, and
    either `output` (seen from the folder), whether it has a `sidecar`, and `faces` (each with its factor and, if
    measured, consistency) or `error`.

    Args:
        folder: where results and manifests are.
        share: (i, n): this run does the i-th of n shares and has a manifest of its own.
        settings: of `settings_hash`.
        sidecar: this run writes sidecars.
        skip: an input is done whose output (with `sidecar`, its sidecar too) is there and was last made from the same
            bytes with the same settings.
        total: inputs of this run.
        announce: print a line about the speed every few seconds.

    Raises:
        GCFSRError: a manifest cannot be read or written.
    """

    def __init__(
        self, folder: Path, share: tuple[int, int] | None, settings: str, sidecar: bool, skip: bool, total: int,
        announce: bool,
    ) -> None:  # fmt: skip
        self.folder, self.settings, self.sidecar, self.total, self.announce = folder, settings, sidecar, total, announce
        made = {line["output"]: line for line in read_all(folder) if "output" in line} if skip else {}
        self.done = {(line["input"], line["sha256"], line["settings"]): line for line in made.values()}
        self.digests: dict[str, str] = {}
        self.images = self.faces = self.skipped = 0
        self.started = self.last = self.said = time.monotonic()
        self.file = _opened(folder / (NAME if share is None else f"manifest.{share[0]}-of-{share[1]}.jsonl"))

    def remaining(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The inputs that are to be restored; each is hashed when its turn comes."""
        for source in sources:
            digest = file_hash(source.path) if source.path is not None and source.path.is_file() else ""
            line = self.done.get((source.name, digest, self.settings))
            if digest and line and self._is_there(line):
                self.skipped += 1
                continue
            self.digests[source.name] = digest
            yield source

    def _is_there(self, line: dict[str, Any]) -> bool:
        output = self.folder / line["output"]
        described = line.get("sidecar") is True and output.with_suffix(".json").is_file()
        return output.is_file() and (described or not self.sidecar)

    def add(self, entry: dict[str, Any]) -> None:
        """Writes the line of one input, given its entry of the report."""
        now = time.monotonic()
        more: dict[str, Any] = {"sha256": self.digests.pop(entry["input"], ""), "settings": self.settings}
        if "output" in entry:
            more |= {"output": os.path.relpath(entry["output"], self.folder), "sidecar": self.sidecar}
        line = {**entry, **more, "seconds": round(now - self.last, 3)}
        self.file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
        self.file.flush()
        self.last = now
        self.images += 1
        self.faces += restored_faces(entry)
        if self.announce and now - self.said > EVERY:
            self.said = now
            note(speed(self.images, self.faces, self.total - self.skipped, now - self.started), error=True)

    def close(self) -> None:
        """Closes the file and says how fast the run was."""
        self.file.close()
        if self.announce:
            note(summary(self.images, self.faces, self.skipped, time.monotonic() - self.started), error=True)


def restored_faces(entry: dict[str, Any]) -> int:
    """How many faces of one input were restored; only a photograph's faces have a status."""
    return sum(face.get("status", "restored") == "restored" for face in entry.get("faces", ()))


def speed(images: int, faces: int, total: int, seconds: float) -> str:
    """One line about how fast a run is, and how long it still takes."""
    rate = images / max(seconds, 1e-9)
    line = f"{images} of {counted(total, 'image')}: {rate:.2f} images/s, {faces / max(seconds, 1e-9):.2f} faces/s"
    left = (total - images) / rate if rate > 0 else 0.0
    return f"{line}, {left:.0f} s left" if total > images and rate > 0 else line


def summary(images: int, faces: int, skipped: int, seconds: float) -> str:
    """One line about a run that has ended."""
    line = speed(images, faces, images, seconds) if images else "no image restored"
    return f"{line}; {skipped} skipped" if skipped else line


def settings_hash(args: Namespace, checkpoint_hash: str) -> str:
    """A hash of all but the input that decides a result and its report: options, and what is in the files they name."""
    options = {key: getattr(args, key, None) for key in (*sidecar.KEPT, "report", "embedding", "draws")}
    for key in ("s_map", "landmarks"):
        if (path := options[key]) is not None:
            options[key] = file_hash(path)
    options["checkpoint"] = checkpoint_hash
    options["device"] = str(options["device"]).partition(":")[0]  # which GPU it is decides nothing
    return hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()


def read_all(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's manifests, those of the one written last at the end."""
    paths = [folder / NAME] if (folder / NAME).is_file() else []
    paths += manifest_shares(folder)
    return [line for path in sorted(paths, key=written) for line in read(path)]


def written(path: Path) -> tuple[int, str]:
    """A key that sorts files by when they were last written."""
    return path.stat().st_mtime_ns, path.name


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of one manifest; what a killed run left of a last line is passed over.

    Raises:
        GCFSRError: naming the line that is not one of a manifest.
    """
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            line = json.loads(text)
            valid = all(isinstance(line[key], str) for key in ("input", "sha256", "settings"))
            valid = valid and isinstance(line.get("output", ""), str)
        except (ValueError, KeyError, TypeError, RecursionError):
            valid = False
        if not valid:
            raise GCFSRError(f"{path}: line {number} is not one of a manifest; remove the file to start again")
        yield line


def merge(folder: Path) -> tuple[int, int]:
    """Joins the manifests of all shares into one (`join`); returns inputs and failures.

    Raises:
        GCFSRError: a share has no manifest yet, or there is none; a report is not one.
    """
    found = set(manifest_shares(folder).values())
    if not found and not (folder / NAME).is_file():
        raise GCFSRError(f"{folder}: no manifest here; name the folder that `gcfsr restore --shard` wrote into")
    for count in {count for _, count in found}:
        missing = [str(index) for index in range(1, count + 1) if (index, count) not in found]
        if missing:
            raise GCFSRError(f"{folder}: no manifest of share {', '.join(missing)} of {count}; restore it first")
    return join(folder)


def manifest_shares(folder: Path) -> dict[Path, tuple[int, int]]:
    """The manifests of shares in a folder, each with (i, n)."""
    found = {path: SHARE.fullmatch(path.name) for path in folder.glob("manifest.*.jsonl")}
    return {path: (int(match[1]), int(match[2])) for path, match in found.items() if match and path.is_file()}


def join(folder: Path) -> tuple[int, int]:
    """Makes one manifest, with the last line of each input, and one report of all; returns inputs and failures.

    Raises:
        GCFSRError: a report or a line of a manifest is not one.
    """
    merge_reports(folder)
    lines = {line["input"]: line for line in read_all(folder)}
    text = "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines.values())
    write_atomic(folder / NAME, text.encode())
    for path in manifest_shares(folder):
        path.unlink()
    return len(lines), sum("error" in line for line in lines.values())


class Entry(Part):
    """An entry of a report."""

    input: Name


ENTRIES = TypeAdapter(list[Entry])


def report_shares(folder: Path) -> dict[Path, int]:
    """The reports of shares in a folder, each with the share's number."""
    found = {path: REPORT_SHARE.fullmatch(path.name) for path in folder.glob("report.*.json")}
    return {path: int(match[1]) for path, match in found.items() if match and path.is_file()}


def begin_report(folder: Path, resume: bool) -> None:
    """Takes the reports of shares that killed runs left into report.json, or removes them where nothing is resumed."""
    if resume:
        merge_reports(folder)
    else:
        for path in report_shares(folder):
            path.unlink()


def merge_reports(folder: Path) -> None:
    """Joins the reports of all shares, in the order of the list, and puts them into report.json (`with_latest`).

    Killed runs of other numbers of shares leave reports as well: of an input's entries a result is preferred to an
    error, then the one in the file written last.
    """
    shares = report_shares(folder)
    if not shares:
        return
    placed: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}
    for path in sorted(shares, key=written):
        for place, entry in enumerate(read_report(path)):
            name = entry["input"]
            if "output" in entry or name not in placed or "error" in placed[name][1]:
                placed[name] = (place, shares[path]), entry
    latest = [entry for _, entry in sorted(placed.values(), key=lambda pair: pair[0])]
    write_atomic(folder / REPORT, sidecar.dump(with_latest(read_report(folder / REPORT), latest)))
    for path in shares:
        path.unlink()


def read_report(path: Path) -> list[dict[str, Any]]:
    """The entries of a report, none where there is no file. Raises GCFSRError where it is not a report."""
    if not path.is_file():
        return []
    return [entry.model_dump() for entry in read_document(path, ENTRIES, "a report of `gcfsr restore`", LONGEST_REPORT)]


def with_latest(former: Sequence[dict[str, Any]], latest: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of an earlier report whose inputs are not among the latest entries, and these."""
    inputs = {entry["input"] for entry in latest}
    return [*(entry for entry in former if entry["input"] not in inputs), *latest]


def share(args: Namespace, environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(i, n): the share of the list that this process does, from `--shard i/n` or a launcher's RANK and WORLD_SIZE.

    Raises:
        GCFSRError: it is not i/n with 1 <= i <= n.
    """
    text, source = args.shard, "--shard"
    if text is None and environment.get("WORLD_SIZE", "1") != "1":
        rank = environment.get("RANK", "")
        text = f"{int(rank) + 1 if rank.isdigit() else rank}/{environment['WORLD_SIZE']}"
        source = "RANK and WORLD_SIZE"
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise GCFSRError(f"{source}: {text} is not a share; write i/n with i from 1 to n")
    return int(match[1]), int(match[2])


def share_of(sources: Sequence[Source], share: tuple[int, int] | None) -> Sequence[Source]:
    """The i-th of n shares, (1, n) to (n, n): every n-th input."""
    return sources if share is None else sources[share[0] - 1 :: share[1]]


def _opened(path: Path) -> BinaryIO:
    """A manifest to append to, without what a killed run left of its last line."""
    if os.path.lexists(path):
        check_file(path)  # no device, whose bytes have no end
    try:
        file = open(path, "a+b")  # noqa: SIM115 - as long as the run
        file.seek(0)
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
    except OSError as error:
        raise GCFSRError(f"{path}: cannot be written: {error.strerror}") from error
    return file
