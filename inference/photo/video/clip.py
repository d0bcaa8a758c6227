"""Clips as files, through libav (PyAV): frames upright in square pixels with their times, and the writing of a result.

libav gets opened files, never names, and only demuxers that read one file: nothing in a clip opens another file or an
address.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import written_beside

try:
    import av
except ModuleNotFoundError as error:
    raise GCFSRError("video: PyAV is not installed; pip install 'gcfsr[video]'") from error

from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
DEMUXERS = "mov,matroska,avi,mpeg,mpegts,asf,ogg"  # no playlists, no descriptions of other files
MAX_PIXELS = 8192 * 4320  # of a frame, read or written
# Numbers of ITU-T H.273, which libav uses, too
RGB, BT709, UNSPECIFIED, BT601, BT2020 = 0, 1, 2, 6, 9
MATRICES = (RGB, BT709, UNSPECIFIED, 4, 5, BT601, 7, BT2020)  # those that can be computed
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics
LIMITED, FULL = 1, 2
# SWS_BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP, ACCURATE_RND: flags that PyAV 17 does not name
SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
PLAYED_IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})


class Frame(NamedTuple):
    """One frame.

    Attributes:
        image: (H, W, 3) BGR, uint8, or uint16 where the clip has more than 8 bits; upright, square pixels.
        time: when it is shown, in ticks of the clip's `time_base` from the clip's start; strictly increasing.
        duration: in ticks, 0 where unknown.
    """

    image: np.ndarray
    time: int
    duration: int


class Clip:
    """A video that is being read; made by `open_clip`.

    Attributes:
        path: the file.
        size: (H, W) of the frames, upright, in square pixels.
        deep: whether it has more than 8 bits per channel.
        rate: frames per second on average.
        time_base: seconds per tick.
        count: frames that its header announces, None where it does not.
        matrix, primaries, transfer: of its colours, numbers of ITU-T H.273.
        notes: what a user should know: what was converted, left out or missing; complete once all frames are read.
    """

    def __init__(self, path: Path, container: InputContainer, first: VideoFrame) -> None:
        self.path, self.container, self.stream = path, container, _video_of(container, path)
        self.notes: list[str] = []
        video = self.stream
        self.start = Fraction(container.start_time or 0, 1_000_000)
        self.time_base = video.time_base or Fraction(1, 90_000)
        self.rate = video.average_rate or video.guessed_rate or Fraction(25)
        self.length = _length(video)
        self.count = video.frames or (round(self.length * self.rate) if self.length else None)
        self._set_colours(first)
        self._set_shape(first)
        self.interlaced = first.interlaced_frame
        if self.interlaced:
            self.notes.append("interlaced; its frames are deinterlaced")

    def _set_colours(self, first: VideoFrame) -> None:
        context, form = self.stream.codec_context, first.format
        transfer, matrix = int(context.color_trc), int(first.colorspace)
        if transfer in HDR:
            raise GCFSRError(
                f"{self.path}: HDR video ({HDR[transfer]}) cannot be restored; convert it to SDR (BT.709) first"
            )
        if matrix not in MATRICES:
            raise GCFSRError(
                f"{self.path}: its colour matrix (number {matrix} of H.273) cannot be read; convert it first"
            )
        self.deep = max(component.bits for component in form.components) > 8
        self.full_range = form.is_rgb or first.color_range == FULL or (form.name or "").startswith("yuvj")
        high = first.width >= 1280 or first.height > 576
        self.read_matrix = (BT709 if high else BT601) if matrix == UNSPECIFIED else matrix  # as players guess
        self.matrix = BT709 if form.is_rgb else self.read_matrix
        self.primaries, self.transfer = int(context.color_primaries), transfer
        beside = {key.lower(): text for key, text in self.stream.metadata.items()}.get("alpha_mode") == "1"  # Matroska
        if beside or any(component.is_alpha for component in form.components):
            self.notes.append("its transparency is left out")

    def _set_shape(self, first: VideoFrame) -> None:
        """Rows and columns as stored, stretched to square pixels (never shrunk), then turned upright."""
        width, height = first.width, first.height
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        if aspect > 1:
            width = _even(width * aspect)
        elif 0 < aspect < 1:
            height = _even(height / aspect)
        if width * height > MAX_PIXELS:
            raise GCFSRError(f"{self.path}: frames of {width}x{height} pixels; at most 8192x4320")
        if (width, height) != (first.width, first.height):
            self.notes.append(
                f"pixels of {aspect.numerator}:{aspect.denominator} made square: "
                f"{first.width}x{first.height} becomes {width}x{height}"
            )
        self.stored = width, height
        self.turn = _display_matrix(first)
        self.size = (width, height) if self.turn[0, 0] == 0 else (height, width)

    def frames(self, on_packet: Callable[[Packet], None] | None = None) -> Iterator[Frame]:
        """All frames in their order. Damaged parts are passed over and noted.

        Args:
            on_packet: takes the packets of the other streams as they come by.
        """
        decoded = self._decoded(on_packet)
        last, end = -1, Fraction(0)
        for frame in _deinterlaced(decoded, self.stream) if self.interlaced else decoded:
            base = frame.time_base or self.time_base
            time = None if frame.pts is None else round((frame.pts * base - self.start) / self.time_base)
            time = last + 1 if time is None else max(time, last + 1)
            duration = round((frame.duration or 0) * base / self.time_base)
            last, end = time, (time + duration) * self.time_base
            yield Frame(self._upright(frame), time, duration)
        if self.length and self.length - end > max(Fraction(1, 2), 3 / self.rate):
            self.notes.append(f"ends after {float(end):.2f} of {float(self.length):.2f} s; the rest is missing")

    def _decoded(self, on_packet: Callable[[Packet], None] | None) -> Iterator[VideoFrame]:
        damaged = 0
        streams = self.container.streams if on_packet else [self.stream]
        packets = self.container.demux(list(streams))
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:  # the file ends within a packet
                packet = None
                damaged += 1
            if packet is None:
                break
            if packet.stream.index != self.stream.index:
                assert on_packet is not None
                on_packet(packet)
                continue
            try:
                yield from packet.decode()  # type: ignore[misc] - of the video's stream
            except FFmpegError:
                damaged += 1
        if damaged:
            self.notes.append("a damaged part is left out" if damaged == 1 else f"{damaged} damaged parts are left out")

    def _upright(self, frame: VideoFrame) -> np.ndarray:
        width, height = self.stored
        frame.colorspace = self.read_matrix
        converted = frame.reformat(
            width, height, "bgr48le" if self.deep else "bgr24", src_color_range=FULL if self.full_range else LIMITED,
            dst_color_range=FULL, interpolation=SCALING,
        )  # fmt: skip
        image = converted.to_ndarray()
        (a, b), (c, d) = self.turn.tolist()
        if a == d == 0:
            image, a, d = image.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(image[:: d or 1, :: a or 1])


@contextlib.contextmanager
def open_clip(path: str | os.PathLike) -> Iterator[Clip]:
    """Opens a video whose size and colours are checked before the first frame is decoded.

    Raises:
        GCFSRError: PyAV is missing, or the file is missing, no video, HDR or too large.
    """
    path = Path(path)
    with _opened(path) as container:
        stream = _video_of(container, path)
        if stream.width * stream.height > MAX_PIXELS:
            raise GCFSRError(f"{path}: frames of {stream.width}x{stream.height} pixels; at most 8192x4320")
        first = _first_frame(container, stream)
        if first is None:
            raise GCFSRError(f"{path}: holds no video frame that can be decoded")
    with _opened(path) as container:
        try:
            yield Clip(path, container, first)
        except FFmpegError as error:
            raise GCFSRError(f"{path}: cannot be decoded: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    if not path.is_file():
        raise GCFSRError(f"{path}: no such file; check the path")
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
            container = stack.enter_context(av.open(_Nameless(file), "r", options=options, metadata_errors="replace"))
        except (FFmpegError, ValueError) as error:
            raise GCFSRError(f"{path}: not a video that can be read; mp4, mov, mkv, avi, mpg, ts or wmv") from error
        except OSError as error:
            raise GCFSRError(f"{path}: cannot be read: {error.strerror}") from error
        yield container


class _Nameless:
    """An opened file as libav sees it: bytes without a name, which it would otherwise try to read as an address."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.write, self.seek, self.tell = file.read, file.write, file.seek, file.tell


@contextlib.contextmanager
def written_clip(
    target: str | os.PathLike, clip: Clip, size: tuple[int, int], metadata: str = "keep"
) -> Iterator["ClipWriter"]:
    """A clip with new frames: H.264, or H.265 with 10 bits for a deep clip; whole or not at all.

    Args:
        target: .mp4, .m4v, .mov or .mkv; written beside and renamed when the block ends well.
        clip: the source, open.
        size: (H, W) of the frames to come.
        metadata: what is kept of titles, dates, ...: "keep", "no-gps" (without where it was taken) or "none" (only the
            languages, by which players choose a stream).

    Raises:
        GCFSRError: another suffix, too large a size, or the target cannot be written.
    """
    form = WRITTEN.get(Path(target).suffix.lower())
    if form is None:
        raise GCFSRError(f"{target}: videos are written as {', '.join(WRITTEN)}")
    if size[0] * size[1] > MAX_PIXELS:
        raise GCFSRError(f"{target}: {size[1]}x{size[0]} pixels; at most 8192x4320, lower --upscale")
    with (
        written_beside(target) as file,
        av.open(_Nameless(file), "w", format=form, metadata_errors="replace") as container,
    ):
        writer = ClipWriter(Path(target), container, clip, size, metadata)
        yield writer
        writer.finish()


class ClipWriter:
    """Takes the new frames of a clip and the packets of its other streams; made by `written_clip`.

    Streams are copied where the form holds them; other audio becomes AAC. `clip.notes` names that and what is left out.
    """

    def __init__(
        self, target: Path, container: OutputContainer, clip: Clip, size: tuple[int, int], metadata: str
    ) -> None:
        self.target, self.container, self.clip, self.size, self.metadata = target, container, clip, size, metadata
        self.matroska = container.format.name == "matroska"
        self.video = self._add_video()
        self.copied: dict[int, Stream] = {}
        self.encoded: dict[int, Any] = {}
        self.last: dict[int, int] = {}  # decoding times, which have to grow
        for stream in clip.container.streams:
            if stream.index != clip.stream.index:
                self._add(stream)
        brands = {"major_brand", "minor_version", "compatible_brands"}
        kept = _kept(clip.container.metadata, metadata)
        container.metadata.update({key: value for key, value in kept.items() if key not in brands})
        chapters = clip.container.chapters()
        container.set_chapters([{**one, "metadata": _kept(one["metadata"], metadata)} for one in chapters])

    def write(self, image: np.ndarray, time: int, duration: int) -> None:
        """Adds a frame.

        Args:
            image: (H, W, 3) BGR of the clip's depth.
            time, duration: in ticks of the clip's `time_base`, as of `Frame`.
        """
        frame = av.VideoFrame.from_ndarray(image, format="bgr48le" if self.clip.deep else "bgr24")
        frame.colorspace = self.clip.matrix
        frame = frame.reformat(
            format=self.video.pix_fmt, src_color_range=FULL, dst_color_range=LIMITED, interpolation=SCALING
        )
        frame.pts, frame.time_base, frame.duration = time, self.clip.time_base, duration
        self._mux(self.video.encode_lazy(frame))

    def take(self, packet: Packet) -> None:
        """Copies, re-encodes or drops a packet of another stream."""
        index = packet.stream.index
        if index in self.copied and packet.size:
            shift = round(self.clip.start / packet.time_base)
            times = [time for time in (packet.dts, packet.pts) if time is not None]
            if not times:
                return
            packet.dts = max(times[0] - shift, self.last.get(index, times[0] - shift - 1) + 1)
            packet.pts = max(times[-1] - shift, packet.dts)
            self.last[index], packet.stream = packet.dts, self.copied[index]
            self._mux([packet])
        elif index in self.encoded:
            with contextlib.suppress(FFmpegError):  # a damaged packet of audio
                for audio in packet.decode():
                    audio.pts = None if audio.pts is None else audio.pts - round(self.clip.start / audio.time_base)
                    self._mux(self.encoded[index].encode(audio))

    def finish(self) -> None:
        """Writes what the encoders still hold."""
        self._mux(self.video.encode_lazy(None))
        for stream in self.encoded.values():
            self._mux(stream.encode(None))

    def _mux(self, packets: Iterable[Packet]) -> None:
        try:
            for packet in packets:
                self.container.mux(packet)
        except FFmpegError as error:
            raise GCFSRError(f"{self.target}: cannot be encoded: {error.strerror}") from error

    def _add_video(self) -> VideoStream:
        clip, (height, width) = self.clip, self.size
        # No B-frames: reordered frames shorten the length that a file of variable rate states
        options = {"crf": "18", "x265-params": "bframes=0:log-level=error"} if clip.deep else {"crf": "17", "bf": "0"}
        codec = "libx265" if clip.deep else "libx264"
        video: Any = self.container.add_stream(codec, rate=clip.rate, options=options)
        video.width, video.height = width, height
        # Odd sides exist only without chroma subsampling
        video.pix_fmt = ("yuv420p" if height % 2 == width % 2 == 0 else "yuv444p") + ("10le" if clip.deep else "")
        video.codec_context.time_base = video.time_base = clip.time_base
        context = video.codec_context
        context.flags |= Flags.frame_duration
        context.color_range, context.colorspace = LIMITED, clip.matrix
        context.color_primaries, context.color_trc = clip.primaries, clip.transfer
        if clip.deep and not self.matroska:
            context.codec_tag = "hvc1"  # the form that Apple's players know
        video.metadata.update(_kept(clip.stream.metadata, self.metadata))
        return video

    def _add(self, stream: Stream) -> None:
        """Prepares another stream of the source, or notes that it is left out."""
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else getattr(stream, "name", None)
        label = f"{stream.type} stream {stream.index} ({codec or 'unknown'})"
        plays = self.matroska or stream.type != "audio" or codec in PLAYED_IN_MP4
        plays = plays or (self.container.format.name == "mov" and str(codec).startswith("pcm"))
        new: Any = None
        if plays and stream.type in ("audio", "subtitle", "attachment"):
            with contextlib.suppress(ValueError, FFmpegError):
                new = self.container.add_stream_from_template(stream)
                self.copied[stream.index] = new
        if new is None and stream.type == "audio" and stream.codec_context is not None:
            audio: Any = stream.codec_context
            rate = audio.rate if audio.rate in AAC_RATES else 48000
            new = self.container.add_stream("aac", rate=rate, layout="mono" if audio.channels == 1 else "stereo")
            self.encoded[stream.index] = new
            self.clip.notes.append(f"{label} becomes AAC")
        if new is None:
            if codec != "bin_data":  # the text of chapters, which are copied as such
                self.clip.notes.append(f"{label} is left out")
            return
        new.metadata.update(_kept(stream.metadata, self.metadata))
        new.disposition = stream.disposition


def _kept(metadata: dict[str, str], option: str) -> dict[str, str]:
    """Metadata that stays true of a new file and that `option` (keep, no-gps, none) keeps."""
    if option == "none":
        return {key: value for key, value in metadata.items() if key == "language"}
    untrue = ("encoder", "duration", "bps", "number_of_", "_statistics", "rotate")
    kept = {key: value for key, value in metadata.items() if not key.lower().startswith(untrue)}
    return kept if option == "keep" else {key: value for key, value in kept.items() if "location" not in key.lower()}


def _video_of(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving images; covers and thumbnails are none."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & still:
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stream.thread_type = "AUTO"  # type: ignore[assignment] - PyAV takes names too
            return stream
    raise GCFSRError(f"{path}: holds no video stream that can be decoded")


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            return None
        except FFmpegError:
            continue
        if frames:
            return frames[0]


def _deinterlaced(frames: Iterable[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """Interlaced frames without their combs, at the same times; progressive ones unchanged."""
    graph = Graph()
    nodes = (
        graph.add_buffer(template=stream),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    for frame in itertools.chain(frames, [None]):
        graph.vpush(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield graph.vpull()


def _display_matrix(frame: VideoFrame) -> np.ndarray:
    """Signs of the (2, 2) matrix M with (x', y') = (x, y) M by which a player shows the frame; the identity if none."""
    sides: Any = frame.side_data  # a mapping that iterates over its values
    for side in sides:
        if side.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5].astype(np.float64)
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return np.diag(np.sign([a, d])).astype(int)
            return np.array([[0, np.sign(b)], [np.sign(c), 0]]).astype(int)
    return np.eye(2, dtype=int)


def _length(stream: VideoStream) -> Fraction | None:
    """The video's seconds as its header says; Matroska says it in a tag."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    found = re.match(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)$", stream.metadata.get("DURATION", ""))
    return Fraction(found[1]) * 3600 + Fraction(found[2]) * 60 + Fraction(found[3]) if found else None


def _even(side: Fraction) -> int:
    return 2 * round(side / 2)
