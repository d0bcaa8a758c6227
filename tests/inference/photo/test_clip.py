"""Clips read and written again: times, colours, shape, other streams, and what is refused. PyAV itself is the judge."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_arch.errors import GCFSRError

av = pytest.importorskip("av")
from gcfsr_inference.photo.video import clip as clip_module  # noqa: E402 - it needs PyAV
from gcfsr_inference.photo.video.clip import Frame, open_clip, written_clip  # noqa: E402

COLOURS = ((0, 0, 220), (0, 200, 0), (220, 0, 0), (60, 120, 190))  # BGR


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    """Four colours, one in each quarter, and a white corner at the upper left: every turn and mirroring differs."""
    image = np.empty((height, width, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        rows, columns = (
            np.array_split(np.arange(height), 2)[number // 2],
            np.array_split(np.arange(width), 2)[number % 2],
        )
        image[np.ix_(rows, columns)] = colour
    image[: height // 8, : width // 8] = 255
    return image


def through(source: Path, target: Path, metadata: str = "keep") -> tuple[list[Frame], list[str]]:
    """Writes a clip's frames unchanged; returns them and the notes."""
    with open_clip(source) as clip:
        frames = []
        with written_clip(target, clip, clip.size, metadata) as writer:
            for frame in clip.frames(writer.take):
                frames.append(frame)
                writer.write(*frame)
    return frames, clip.notes


def quarters(image: np.ndarray) -> np.ndarray:
    """The colours in the middle of the four quarters, (4, 3)."""
    height, width = image.shape[:2]
    return np.array(
        [
            np.median(image[y - 4 : y + 5, x - 4 : x + 5], axis=(0, 1))
            for y in (height // 4, 3 * height // 4)
            for x in (width // 4, 3 * width // 4)
        ]
    )


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "left_out"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p", True),  # alpha is a second stream beside the one that is decoded
        ("a.mkv", "libvpx-vp9", "yuva420p", True),
        ("a.mov", "qtrle", "argb", True),
        ("a.webm", "libvpx-vp9", "yuv420p", False),
        ("a.mov", "qtrle", "rgb24", False),
    ],
)
def test_transparency_that_is_left_out_is_reported(
    name: str, codec: str, pix_fmt: str, left_out: bool, tmp_path: Path
) -> None:
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        for number in range(2):
            pixels = np.dstack([scene(), np.full((96, 128), 100 * number, np.uint8)])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "bgra")))
        file.mux(stream.encode())
    frames, notes = through(tmp_path / name, tmp_path / "out.mp4")
    assert len(frames) == 2
    assert notes == ["its transparency is left out"] * left_out


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_at_variable_rate_keep_their_times(suffix: str, write_clip, read_clip, tmp_path: Path) -> None:
    times = [0, 1000, 2000, 14000, 15000, 40000, 40500, 72000]  # of 12,000 ticks a second; the last is the end
    source = write_clip(tmp_path / "in.mp4", [scene()] * 7, times=times)
    through(source, tmp_path / f"out{suffix}")
    tick = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 12000)  # Matroska counts milliseconds
    expected = [round(Fraction(time, 12000) / tick) * tick for time in times]
    assert read_clip(tmp_path / f"out{suffix}")[1] == expected[:-1]
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert file.duration == pytest.approx(6_000_000, abs=1000)


def test_the_rate_of_film_is_exact(write_clip, read_clip, tmp_path: Path) -> None:
    rate = Fraction(24000, 1001)
    through(write_clip(tmp_path / "in.mp4", [scene()] * 30, rate=rate), tmp_path / "out.mp4")
    assert read_clip(tmp_path / "out.mp4")[1] == [number / rate for number in range(30)]
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].average_rate == rate


@pytest.mark.parametrize(
    ("size", "tag", "read_as", "expected"),
    [
        ((720, 1280), None, 1, 1),
        ((96, 128), None, 5, 6),
        ((96, 128), 1, 1, 1),
        ((720, 1280), 5, 5, 5),
        ((96, 128), 9, 9, 9),
    ],
)
def test_colours_are_kept_and_named(
    size: tuple[int, int], tag: int | None, read_as: int, expected: int, tmp_path: Path
) -> None:
    """Untagged clips are BT.709 if HD and BT.601 if not, as players take them; the result names its matrix."""
    image = scene(*size)
    with av.open(str(tmp_path / "in.mp4"), "w") as file:
        video = file.add_stream("libx264", rate=12, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = size[1], size[0], "yuv420p"
        if tag is not None:
            video.codec_context.colorspace = tag
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.colorspace = read_as
        frame = frame.reformat(format="yuv420p", src_color_range=2, dst_color_range=1)
        file.mux(video.encode(frame))
        file.mux(video.encode(None))
    (frame,), _ = through(tmp_path / "in.mp4", tmp_path / "out.mp4")
    np.testing.assert_allclose(quarters(frame.image), COLOURS, atol=3)
    with av.open(str(tmp_path / "out.mp4")) as file:
        out = next(file.decode(video=0))
        assert (int(out.colorspace), int(out.color_range)) == (expected, 1)
        back = out.reformat(format="bgr24", src_color_range=1, dst_color_range=2).to_ndarray()
    np.testing.assert_allclose(quarters(back), COLOURS, atol=4)


def test_full_range_becomes_limited_with_the_same_colours(write_clip, read_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", [scene()] * 2, pix_fmt="yuvj420p")
    through(source, tmp_path / "out.mp4")
    np.testing.assert_allclose(quarters(read_clip(tmp_path / "out.mp4")[0][0]), COLOURS, atol=4)


def test_a_deep_clip_stays_deep(write_clip, tmp_path: Path) -> None:
    """A ramp of 10 bits over 8-bit steps: more than 256 values come back, within a 10-bit step or two."""
    luma = np.tile(np.linspace(200, 800, 512).round().astype(np.uint16), (64, 1))
    with av.open(str(tmp_path / "in.mp4"), "w") as file:
        video = file.add_stream("libx265", rate=12, options={"x265-params": "lossless=1:bframes=0:log-level=error"})
        video.width, video.height, video.pix_fmt = 512, 64, "yuv420p10le"
        frame = av.VideoFrame(512, 64, "yuv420p10le")
        gray = np.full((32, 256), 512, np.uint16)
        for plane, values in zip(frame.planes, (luma, gray, gray), strict=True):
            plane.update(values.tobytes())
        file.mux(video.encode(frame))
        file.mux(video.encode(None))
    (frame,), _ = through(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert frame.image.dtype == np.uint16
    with av.open(str(tmp_path / "out.mp4")) as file:
        out = next(file.decode(video=0))
    assert out.format.name == "yuv420p10le"
    result = np.frombuffer(out.planes[0], np.uint16).reshape(64, -1)[:, :512].astype(int)
    assert len(np.unique(result)) > 400
    assert np.abs(result - luma).mean() < 1


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotated_clips_come_out_upright(rotation: int, write_clip, read_clip, tmp_path: Path) -> None:
    """The file holds turned rows and columns and says how to show them: what is shown stays."""
    stored = np.rot90(scene(), -rotation // 90)
    source = write_clip(tmp_path / "in.mp4", [stored] * 2, rotation=rotation)
    through(source, tmp_path / "out.mp4")
    result = read_clip(tmp_path / "out.mp4")[0][0]
    assert result.shape == scene().shape
    assert np.abs(result.astype(int) - scene()).mean() < 4


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(4, 3), (96, 170)), (Fraction(3, 4), (128, 128))])
def test_oblong_pixels_become_square(
    aspect: Fraction, size: tuple[int, int], write_clip, read_clip, tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "in.mp4", [scene()] * 2, sample_aspect_ratio=aspect)
    _, notes = through(source, tmp_path / "out.mp4")
    assert notes == [
        f"pixels of {aspect.numerator}:{aspect.denominator} made square: 128x96 becomes {size[1]}x{size[0]}"
    ]
    result = read_clip(tmp_path / "out.mp4")[0][0]
    assert result.shape[:2] == size
    assert result.shape[1] / result.shape[0] == pytest.approx(128 / 96 * aspect, rel=0.01)
    expected = cv2.resize(scene(), size[::-1], interpolation=cv2.INTER_CUBIC)
    assert np.abs(result.astype(int) - expected).mean() < 4


def test_an_interlaced_clip_loses_its_combs(write_clip, tmp_path: Path) -> None:
    """Fields 1/24 s apart of a bar that moves: neighbouring rows of the result agree, those of the source do not."""

    def woven(number: int) -> np.ndarray:
        image = np.full((96, 256, 3), 40, np.uint8)
        for field in (0, 1):
            left = 20 + 12 * (2 * number + field)
            image[field::2, left : left + 40] = 220
        return image

    options = {"flags": "+ilme+ildct", "x264-params": "tff=1"}
    source = write_clip(tmp_path / "in.mp4", [woven(number) for number in range(6)], options=options)
    frames, notes = through(source, tmp_path / "out.mp4")
    assert notes == ["interlaced; its frames are deinterlaced"]
    assert [frame.time for frame in frames] == [1024 * number for number in range(6)]

    def comb(image: np.ndarray) -> float:
        rows = image[..., 1].astype(int)
        return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())

    assert comb(frames[3].image) < 0.25 * comb(woven(3))


def test_a_clip_of_one_frame(write_clip, read_clip, tmp_path: Path) -> None:
    through(write_clip(tmp_path / "in.mp4", [scene()]), tmp_path / "out.mkv")
    assert len(read_clip(tmp_path / "out.mkv")[0]) == 1


def test_other_streams_are_copied_bit_by_bit(write_clip, packets, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", [scene()] * 24, audio=("flac", "aac"))
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,700\nHello\n")
    with (
        av.open(str(source)) as old,
        av.open(str(tmp_path / "a.srt")) as subtitles,
        av.open(str(tmp_path / "in.mkv"), "w") as new,
    ):
        copies = [new.add_stream_from_template(stream, opaque=True) for stream in old.streams]
        copies.append(new.add_stream_from_template(subtitles.streams[0], opaque=True))
        for copy, language in zip(copies[1:], ("fra", "eng"), strict=False):
            copy.metadata["language"] = language
        new.metadata["title"] = "Holiday"
        base = Fraction(1, 1000)
        new.set_chapters([{"id": 1, "start": 0, "end": 900, "time_base": base, "metadata": {"title": "Arrival"}}])
        for first, file in ((0, old), (3, subtitles)):
            for packet in file.demux():
                if packet.dts is not None:
                    packet.stream = copies[first + packet.stream.index]
                    new.mux(packet)
    _, notes = through(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert notes == []
    for kind in ("audio", "subtitle"):
        assert packets(tmp_path / "out.mkv", kind) == packets(tmp_path / "in.mkv", kind)
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert [stream.language for stream in file.streams.audio] == ["fra", "eng"]
        assert file.metadata["title"] == "Holiday"
        assert [chapter["metadata"]["title"] for chapter in file.chapters()] == ["Arrival"]
    for suffix in (".mkv", ".mp4"):
        through(tmp_path / "in.mkv", tmp_path / f"none{suffix}", "none")
        assert not any(word in (tmp_path / f"none{suffix}").read_bytes() for word in (b"Holiday", b"Arrival"))
        with av.open(str(tmp_path / f"none{suffix}")) as file:
            assert [stream.language for stream in file.streams.audio] == ["fra", "eng"]
            assert len(file.chapters()) == 1
    _, notes = through(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert notes == ["subtitle stream 3 (subrip) is left out"]
    assert packets(tmp_path / "out.mp4", "audio") == packets(tmp_path / "in.mkv", "audio")


@pytest.mark.parametrize(
    ("option", "words"), [("keep", {"Holiday", "+48.8577"}), ("no-gps", {"Holiday"}), ("none", set())]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_metadata_is_kept_as_asked(suffix: str, option: str, words: set[str], write_clip, tmp_path: Path) -> None:
    place = "+48.8577+002.2950/"
    tags = {"title": "Holiday", "location": place, "com.apple.quicktime.location.ISO6709": place}
    source = write_clip(tmp_path / f"in{suffix}", [scene()] * 3, audio=("aac",), tags=tags)
    through(source, tmp_path / f"out{suffix}", option)
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        kept = [text for part in (file, *file.streams) for text in part.metadata.values()]
    assert {word for word in ("Holiday", "+48.8577") if any(word in text for text in kept)} == words


def test_audio_that_the_container_does_not_support_is_reencoded(write_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.avi", [scene()] * 24, codec="mpeg4", audio=("mp2",), options={"bf": "0"})
    _, notes = through(source, tmp_path / "out.mp4")
    assert notes == ["audio stream 1 (mp2) becomes AAC"]
    with av.open(str(tmp_path / "out.mp4")) as file:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert np.argmax(spectrum) * 44100 / len(sound) == pytest.approx(440, abs=3)
    assert len(sound) / 44100 == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("form", "suffix", "codec", "sound"),
    [("mpeg", ".mpg", "mpeg2video", "mp2"), ("mpegts", ".mts", "libx264", "ac3"), ("asf", ".wmv", "wmv2", "wmav2"),
     ("3gp", ".3gp", "mpeg4", "aac")],
)  # fmt: skip
def test_other_containers_keep_video_and_audio_in_sync(
    form: str, suffix: str, codec: str, sound: str, write_clip, read_clip, tmp_path: Path
) -> None:
    """They start at any time; the first frame's distance from the first sound is kept."""
    source = write_clip(
        tmp_path / f"in{suffix}", [scene()] * 25, codec=codec, rate=25, form=form, audio=(sound,), options={"bf": "0"}
    )
    frames, _ = through(source, tmp_path / "out.mp4")
    np.testing.assert_allclose(quarters(frames[3].image), COLOURS, atol=12)

    def lead(path: Path) -> float:
        first: dict[str, float] = {}
        with av.open(str(path)) as file:
            for frame in file.decode(file.streams.video[0], file.streams.audio[0]):
                first.setdefault(type(frame).__name__, frame.time)
        return first["VideoFrame"] - first["AudioFrame"]

    assert len(read_clip(tmp_path / "out.mp4")[0]) == len(read_clip(source)[0])
    assert lead(tmp_path / "out.mp4") == pytest.approx(lead(source), abs=0.03)


def test_a_clip_that_ends_early_is_reported(write_clip, read_clip, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = write_clip(tmp_path / "whole.mkv", rng.integers(0, 256, (24, 64, 64, 3), np.uint8))
    (tmp_path / "in.mkv").write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    frames, notes = through(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert 5 < len(frames) < 20
    assert notes[-1].startswith("ends after 0.")
    assert notes[-1].endswith("of 2.00 s; the rest is missing")
    assert len(read_clip(tmp_path / "out.mkv")[0]) == len(frames)


def test_a_damaged_frame_is_skipped_and_reported(write_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.avi", [scene()] * 8, codec="png", pix_fmt="rgb24")
    data = bytearray(source.read_bytes())
    start = [at for at in range(len(data)) if data[at : at + 4] == b"IDAT"][4]
    data[start + 4 : start + 24] = bytes(20)
    source.write_bytes(data)
    frames, notes = through(source, tmp_path / "out.mp4")
    assert [frame.time for frame in frames] == [0, 1, 2, 3, 5, 6, 7]
    assert notes == ["a damaged part is left out"]


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_refused(transfer: str, tmp_path: Path, write_clip) -> None:
    number = {"smpte2084": 16, "arib-std-b67": 18}[transfer]
    settings = {"color_trc": number, "color_primaries": 9, "colorspace": 9}
    source = write_clip(tmp_path / "in.mp4", [scene()] * 2, **settings)
    with pytest.raises(GCFSRError, match=r"in\.mp4: HDR video \((PQ|HLG)\).*convert it to SDR"), open_clip(source):
        pass


def test_frames_that_are_too_large_are_refused_before_they_are_decoded(
    write_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "in.mp4", [scene()] * 2)
    monkeypatch.setattr(clip_module, "MAX_PIXELS", 128 * 96 - 1)
    monkeypatch.setattr(clip_module, "_first_frame", lambda *_: pytest.fail("decoded"))
    with pytest.raises(GCFSRError, match=r"in\.mp4: frames of 128x96 pixels; at most"), open_clip(source):
        pass


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    """A web server of this machine: its port, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1], asked
        running.shutdown()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/a.mp4'\n",
    "local concat": "ffconcat version 1.0\nfile '{clip}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-live:2011" mediaPresentationDuration="PT1S"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation '
    'id="1" bandwidth="1"><BaseURL>http://127.0.0.1:{port}/a.mp4</BaseURL><SegmentBase/></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_nothing(kind: str, server: tuple[int, list[str]], write_clip, tmp_path: Path) -> None:
    port, asked = server
    other = write_clip(tmp_path / "other.mp4", [scene()])
    (tmp_path / "in.mp4").write_text(PLAYLISTS[kind].format(port=port, clip=other))
    with pytest.raises(GCFSRError, match=r"in\.mp4: not a video that can be read"), open_clip(tmp_path / "in.mp4"):
        pass
    assert asked == []


def test_names_are_names_of_files(
    server: tuple[int, list[str]], write_clip, read_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times, addresses, protocols, formats and line breaks in a name are a name like any other."""
    port, asked = server
    monkeypatch.chdir(tmp_path)
    address = Path(f"http:/127.0.0.1:{port}/x.mp4")
    with pytest.raises(GCFSRError, match="no such file"), open_clip(address):
        pass
    address.parent.mkdir(parents=True)
    plain = write_clip(tmp_path / "plain.mp4", [scene()] * 2).read_bytes()
    for name in (str(address), "12:30.mp4", "pipe:0.mp4", "-i.mp4", "%03d.mp4", "concat:a|b.mp4", "a\nb.mp4"):
        Path(name).write_bytes(plain)
        through(Path(name), Path(f"{name}:out.mp4"))
        assert len(read_clip(Path(f"./{name}:out.mp4").absolute())[0]) == 2
    if sys.platform == "linux":
        odd = Path(os.fsdecode(b"\xff.mp4"))
        odd.write_bytes(plain)
        assert len(through(odd, Path("odd.mp4"))[0]) == 2
    assert asked == []


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x20ftypisom" + bytes(500)])
def test_not_a_video(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(GCFSRError, match=r"a\.mp4: not a video|a\.mp4: holds no video"), open_clip(tmp_path / "a.mp4"):
        pass


def test_a_file_with_only_audio_or_a_cover_is_not_a_video(write_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", [scene()] * 12, audio=("aac",))
    with av.open(str(source)) as old, av.open(str(tmp_path / "b.mp4"), "w") as new:
        (sound,) = old.streams.audio
        copy = new.add_stream_from_template(sound)
        for packet in old.demux(sound):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    with pytest.raises(GCFSRError, match=r"b\.mp4: holds no video stream"), open_clip(tmp_path / "b.mp4"):
        pass


def test_a_full_disk_is_one_line_and_leaves_nothing(
    write_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "in.mp4", [scene()] * 3)

    class Full(clip_module._Nameless):
        def __init__(self, file) -> None:
            super().__init__(file)
            if file.writable():
                self.write = self._fail

        def _fail(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(clip_module, "_Nameless", Full)
    with pytest.raises(GCFSRError, match=r"out\.mp4: cannot be written: No space left"):
        through(source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_invalid_targets(write_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_clip(tmp_path / "in.mp4", [scene()])
    for name, reason in (("out.gif", "written as"), ("no/out.mp4", "No such file")):
        with pytest.raises(GCFSRError, match=reason):
            through(source, tmp_path / name)
    with (
        pytest.raises(GCFSRError, match="at most 8192x4320, lower --upscale"),
        open_clip(source) as clip,
        written_clip(tmp_path / "out.mp4", clip, (9000, 9000)),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_without_pyav_the_extra_is_named() -> None:
    program = "import sys; sys.modules['av'] = None; import gcfsr_inference.photo.video.clip"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("video: PyAV is not installed; pip install 'gcfsr[video]'")
