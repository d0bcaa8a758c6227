"""Tiny networks as checkpoint files, a face that may be shown, and clips: made and read without `photo.video.clip`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gcfsr_inference.cli import main


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network of 32 pixels with random parameters, factors 2 to 16."""
    return _save(tmp_path_factory, "tiny.safetensors", min_factor=2, max_factor=16)


@pytest.fixture(scope="session")
def tiny_blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same size, blind."""
    return _save(tmp_path_factory, "blind.safetensors", blind=True)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """scikit-image's astronaut (public domain): (256, 256, 3) BGR uint8 around the face."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[0:256, 96:352, ::-1])


@pytest.fixture
def face(tmp_path: Path) -> Path:
    """A file of 20x20 pixels of smooth noise."""
    path = tmp_path / "in" / "face.png"
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(noise, (5, 5), 0))
    return path


@pytest.fixture
def restore(tiny, tmp_path, capsys):
    """Runs `gcfsr restore` in this process: arguments -> (status, standard output, standard error)."""

    def call(*args, checkpoint=tiny, out=tmp_path / "out"):
        given = [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
        status = main(["restore", *map(str, args), "-o", str(out), *given])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without weights and no GCFSR_WEIGHTS, independent of the machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GCFSR_WEIGHTS", raising=False)


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """`_write_clip`."""
    pytest.importorskip("av")
    return _write_clip


@pytest.fixture
def read_clip() -> Callable[..., tuple[list[np.ndarray], list[Fraction]]]:
    """`_read_clip`."""
    return _read_clip


@pytest.fixture
def packets() -> Callable[[Path, str], list[bytes]]:
    """`_packets`."""
    return _packets


def _save(factory: pytest.TempPathFactory, name: str, **options) -> Path:
    import torch

    from gcfsr_arch import GCFSR, save_generator

    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=32, narrow=1 / 16, **options)
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if "noise_strength" in key:
                parameter.fill_(0.5)  # its start, 0, would hide every fault in the noise
    path = factory.mktemp("checkpoints") / name
    save_generator(net, path)
    return path


def _write_clip(
    path: Path,
    images: Iterable[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 12,
    times: Sequence[int] | None = None,
    audio: Sequence[str] = (),
    form: str | None = None,
    tags: Mapping[str, str] | None = None,
    **settings: Any,
) -> Path:
    """Encodes (H, W, 3) BGR uint8 images without visible loss.

    Args:
        path: the file; its suffix decides the container unless `form` does.
        images: the frames.
        codec, pix_fmt, rate: of the video.
        times: of the frames in units of 1/12000 s, with the end behind the last; None: at the rate.
        audio: codecs of streams with a tone.
        form: the container.
        tags: metadata of the file and of each stream.
        settings: set on the video's codec context (`colorspace`, `sample_aspect_ratio`, ...); `options` for the codec.
    """
    import av

    images = list(images)
    height, width = images[0].shape[:2]
    base = Fraction(1, 12000) if times else 1 / Fraction(rate)
    lossless = {"qp": "0"} if codec.startswith("libx264") else {"qscale": "1"}
    with av.open(str(path), "w", format=form) as file:
        video: Any = file.add_stream(codec, rate=rate, options={"bf": "0", **lossless, **settings.pop("options", {})})
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.codec_context.time_base = base
        video.codec_context.flags |= av.codec.context.Flags.frame_duration
        rotation = settings.pop("rotation", None)
        for key, value in settings.items():
            setattr(video.codec_context, key, value)
        if rotation is not None:
            video.set_display_rotation(rotation)
        sounds: list[Any] = [file.add_stream(name, rate=44100, layout="mono", bit_rate=64000) for name in audio]
        for part in (file, video, *sounds):
            part.metadata.update(tags or {})
        for stream in sounds:
            for start in range(0, 44100 * len(images) // round(rate), 441):
                wave = 0.2 * np.sin(np.arange(start, start + 441) * (2 * np.pi * 440 / 44100))
                sound = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = 44100, start, Fraction(1, 44100)
                file.mux(stream.encode(sound))
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            if "yuv" in pix_fmt:
                frame.colorspace = settings.get("colorspace", 6)
                full = 2 if "yuvj" in pix_fmt else 1
                frame = frame.reformat(format=pix_fmt, src_color_range=2, dst_color_range=full)
            frame.pts, frame.time_base = (times[number] if times else number), base
            if times:
                frame.duration = times[number + 1] - times[number]
            file.mux(video.encode(frame))
        for stream in (video, *sounds):
            file.mux(stream.encode(None))
    return path


def _read_clip(path: Path, deep: bool = False) -> tuple[list[np.ndarray], list[Fraction]]:
    """Frames as BGR arrays by the file's own tags (BT.601 without), as stored, and their times in seconds."""
    import av

    images, times = [], []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        for frame in file.decode(stream):
            if frame.colorspace == 2:
                frame.colorspace = 6
            full = 2 if frame.color_range == 2 else 1
            made = frame.reformat(format="bgr48le" if deep else "bgr24", src_color_range=full, dst_color_range=2)
            images.append(made.to_ndarray())
            times.append(Fraction(frame.pts) * frame.time_base)
    return images, times


def _packets(path: Path, kind: str) -> list[bytes]:
    """The coded bytes of all streams of a kind, one entry for each stream."""
    import av

    with av.open(str(path)) as file:
        found: dict[int, bytes] = {stream.index: b"" for stream in file.streams if stream.type == kind}
        for packet in file.demux():
            if packet.stream.index in found:
                found[packet.stream.index] += bytes(packet)
    return list(found.values())
