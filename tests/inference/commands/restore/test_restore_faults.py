"""Nothing that one input is called or holds ends the run, and nothing that is printed can fail or drive a terminal."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import cut_name, remove_stale, written_beside
from gcfsr_datasets.image_io import write_image
from gcfsr_inference import console
from gcfsr_inference.commands.restore import loop
from gcfsr_inference.commands.restore.files import gather
from gcfsr_inference.evaluation.report.text import cell
from gcfsr_inference.restore.runner import FaceRunner

pytestmark = pytest.mark.usefixtures("no_weights")
FACE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8), (5, 5), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three faces a, b, c."""
    path = tmp_path / "in"
    path.mkdir()
    for name in "abc":
        cv2.imwrite(str(path / f"{name}.png"), FACE)
    return path


@pytest.fixture
def program(tiny, tmp_path, outside):
    """Runs `gcfsr restore --aligned` as a program of its own: arguments -> completed process, bytes."""

    def call(*args, env=(), out=None, **options):
        command = [sys.executable, "-m", "gcfsr_inference.cli", "restore", "--aligned", "--checkpoint", tiny]
        command += ["-o", out or tmp_path / "out", *args]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(command, env={**outside, **dict(env)}, timeout=600, check=False, **options)

    return call


def results(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out" / "restored_faces").iterdir())


# -- one input's failure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_error_is_one_inputs_failure(restore, folder, tmp_path, monkeypatch, batch, debug):
    write = loop.write_aligned

    def spoiled(run, loaded, *args):
        if loaded.source.stem.name == "b":
            raise ZeroDivisionError("an unexpected error")
        return write(run, loaded, *args)

    monkeypatch.setattr(loop, "write_aligned", spoiled)
    options = ["--aligned", "--batch", batch, "--report", *(["--debug"] if debug else [])]
    status, _, err = restore("-i", folder, *options)
    assert status == 2
    assert results(tmp_path) == ["a_00.png", "c_00.png"]
    assert "b.png: unexpected ZeroDivisionError: an unexpected error" in err
    assert ("Traceback" in err) == debug
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {Path(entry["input"]).name: "error" in entry for entry in report} == {
        "a.png": False, "b.png": True, "c.png": False,
    }  # fmt: skip


def test_an_input_that_breaks_a_batch_fails_alone(restore, folder, tmp_path, monkeypatch):
    cv2.imwrite(str(folder / "b.png"), 255 - FACE)
    whole = FaceRunner.restore_faces

    def spoiled(runner, faces):
        if any((face.crop == 255 - FACE).all() for face in faces):
            raise RuntimeError("out of memory")
        return whole(runner, faces)

    monkeypatch.setattr(FaceRunner, "restore_faces", spoiled)
    status, _, err = restore("-i", folder, "--aligned", "--batch", 3)
    assert (status, results(tmp_path)) == (2, ["a_00.png", "c_00.png"])
    assert "b.png: unexpected RuntimeError: out of memory" in err


def test_the_report_exists_during_the_run(restore, folder, tmp_path, monkeypatch):
    write, seen = loop.write_aligned, []

    def watched(run, loaded, *args):
        path = tmp_path / "out" / "report.json"
        seen.append(len(json.loads(path.read_text())) if path.exists() else 0)
        if loaded.source.stem.name == "c":
            raise KeyboardInterrupt
        return write(run, loaded, *args)

    monkeypatch.setattr(loop, "write_aligned", watched)
    monkeypatch.setattr("gcfsr_inference.commands.restore.report.EVERY", 0)
    assert restore("-i", folder, "--aligned", "--report")[0] == 130
    assert seen == [0, 1, 2]
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())) == 2


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_no_console_can_print(program, folder, tmp_path):
    names = [b"not utf-8 \xff.png", "顔 \U0001f600.png".encode(), b"esc \x1b[31m\n.png", "turn \u202e.png".encode()]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes((folder / "a.png").read_bytes())
    (folder / os.fsdecode(b"empty \x1b\xfe.png")).touch()
    for encoding in ("cp1252", "ascii", "utf-8"):
        out = tmp_path / encoding
        done = program("-i", folder, "--report", "--sidecar", env={"PYTHONIOENCODING": encoding}, out=out)
        told = done.stdout + done.stderr
        assert done.returncode == 2
        assert b"Traceback" not in told
        assert b"\x1b" not in told
        assert "\u202e" not in told.decode(encoding)
        assert rb"empty \x1b\xfe.png: the file is empty" in done.stderr
        assert rb"not utf-8 \xff.png face 0: " in done.stdout
        assert len(list((out / "restored_faces").glob("*.png"))) == 7
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert {os.fsencode(Path(entry["input"]).name) for entry in report} >= set(names)
        again = program("--from-sidecar", out / "restored_faces" / os.fsdecode(b"not utf-8 \xff_00.json"))
        assert (again.returncode, again.stderr) == (0, b"")


def test_printable_escapes_what_is_not_for_display():
    assert console.printable("a\nb\x1b[0m \u202e\udcff é 顔") == r"a\nb\x1b[0m \u202e\xff é 顔"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_one_line(program, folder):
    with open("/dev/full", "wb") as full:
        done = program("-i", folder / "a.png", stdout=full)
    assert (done.returncode, done.stderr.splitlines()) == (
        2, [b"gcfsr: error: standard output: No space left on device"],
    )  # fmt: skip
    for out in ("-", "/dev/full"):
        with open("/dev/full", "wb") as full:
            done = program("-i", folder / "a.png", out=out, stdout=full)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell's >&-")
def test_a_closed_standard_output_is_one_line(tiny, folder, tmp_path, outside):
    line = f"exec {sys.executable} -m gcfsr_inference.cli restore --aligned -i {folder} -o {tmp_path}/out >&-"
    done = subprocess.run(["sh", "-c", line], env=outside, capture_output=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("letter", ["顔", "a", "é", "\U0001f600"])
def test_the_longest_names_that_a_file_system_takes(restore, tmp_path, letter):
    stem = letter * (251 // len(letter.encode()))
    folder = tmp_path / "in"
    folder.mkdir()
    for last in "xy":
        name = f"{cut_name(stem, 250)}{last}.png"
        assert len(name.encode()) <= 255
        cv2.imwrite(str(folder / "a.png"), FACE)
        os.rename(folder / "a.png", folder / name)
    status, _, err = restore("-i", folder, "--aligned", "--sidecar", "--suffix", "restored", "--draws", 2)
    assert (status, err) == (0, "")
    assert len(list((tmp_path / "out" / "restored_faces").glob("*.png"))) == 2
    assert len(list((tmp_path / "out" / "spread").glob("*.png"))) == 4


def test_inputs_of_one_name_get_results_of_their_own(restore, tmp_path):
    paths = [tmp_path / folder / name for folder, name in
             (("1", "face.png"), ("2", "face.png"), ("3", "face.png"), ("1", "face_2.png"), ("4", "FACE.png"),
              ("5", "face.jpg"))]  # fmt: skip
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), FACE)
    status, out, err = restore("-i", *paths, "--aligned")
    assert (status, err) == (0, "")
    assert len(results(tmp_path)) == len(paths)
    assert len({name.casefold() for name in results(tmp_path)}) == len(paths)
    assert len(out.splitlines()) == len(paths)


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_takes_every_format_and_reports_skipped_files(restore, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    from PIL import Image

    image = Image.fromarray(FACE)
    for suffix, kind in ((".jfif", "JPEG"), (".avif", "AVIF"), (".gif", "GIF"), (".jp2", "JPEG2000"), (".PNG", "PNG")):
        image.save(folder / f"{suffix[1:]}{suffix}", kind)
    for name in ("a.txt", "b.txt", "c.pdf", "none", ".hidden"):
        (folder / name).touch()
    status, out, err = restore("-i", folder, "--aligned")
    assert (status, len(out.splitlines())) == (0, 5)
    assert err == f"{folder}: 4 files skipped: 2 .txt, 1 .pdf, 1 no suffix\n"


def test_links_that_lead_nowhere_are_counted(tmp_path):
    write_image(tmp_path / "face.png", FACE)
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    sources, skipped = gather([str(tmp_path)])
    assert [source.path for source in sources] == [tmp_path / "face.png"]
    assert skipped == [f"{tmp_path}: 1 file skipped: 1 broken link"]


def test_recursive_never_reads_its_own_output(restore, folder, tmp_path):
    for out in (folder / "results", folder):
        for _ in range(2):
            status, told, _ = restore("-i", folder, "--aligned", "--recursive", out=out)
            assert (status, len(told.splitlines())) == (0, 3)
        if out != folder:
            assert restore("-i", out / "restored_faces", "--aligned", out=tmp_path / "other")[0] == 0
            for path in sorted(out.rglob("*"), reverse=True):  # for the next round
                path.unlink() if path.is_file() else path.rmdir()


# -- what a killed run leaves --------------------------------------------------------------------------------------


def test_partial_files_of_a_killed_run_are_removed_by_the_next(restore, folder, tmp_path):
    target = tmp_path / "out" / "restored_faces"
    target.mkdir(parents=True)
    program = (
        "import os, signal, sys; from gcfsr_arch.files import written_beside\n"
        "with written_beside(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, target / "a_00.png"], check=False)
    assert len(list(target.glob(".*.partial"))) == 1
    assert restore("-i", folder, "--aligned")[0] == 0
    assert results(tmp_path) == ["a_00.png", "b_00.png", "c_00.png"]


def test_a_file_that_is_being_written_is_kept(tmp_path):
    with written_beside(tmp_path / "a.png") as file:
        file.write(b"half")
        remove_stale(tmp_path)
        assert len(list(tmp_path.glob(".*.partial"))) == 1
    assert (tmp_path / "a.png").read_bytes() == b"half"


# -- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx", "\rx", '=HYPERLINK("http://a")'])
def test_no_cell_begins_as_a_formula(text):
    buffer = io.StringIO()
    csv.writer(buffer).writerow([cell(text), cell("plain =1")])
    first, second = next(csv.reader(io.StringIO(buffer.getvalue(), newline="")))
    assert first == f"'{text}"
    assert second == "plain =1"


def test_photographs_keep_their_metadata(restore, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Camera", 6
    exif[0x8825] = {1: "N", 2: (51.0, 30.0, 0.0)}
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path, exif=exif.tobytes(), dpi=(240, 240))
    for choice, camera, place in (("keep", "Camera", True), ("no-gps", "Camera", False), ("none", None, False)):
        out = tmp_path / choice
        assert restore("-i", path, "--metadata", choice, out=out)[0] == 0
        with Image.open(out / "restored_imgs" / "a.jpg") as image:
            assert image.size == (40, 60)  # upright
            found = image.getexif()
            assert (found.get(0x0110), bool(found.get_ifd(0x8825)), found.get(0x0112, 1)) == (camera, place, 1)


def test_max_pixels(restore, tmp_path):
    path = tmp_path / "large.png"
    write_image(path, np.zeros((4100, 4100, 3), np.uint8))
    status, _, err = restore("-i", path, "--aligned")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "4100x4100 is 16.8 megapixels" in err
    assert "--max-pixels 16810000" in err
    with contextlib.suppress(OSError):
        path.unlink()
    cv2.imwrite(str(path), FACE)
    assert restore("-i", path, "--aligned", "--max-pixels", 399)[0] == 2
    assert restore("-i", path, "--aligned", "--max-pixels", 400)[0] == 0
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((20, 21), np.uint8))
    assert "mask.png: 21x20" in restore(path, "--aligned", "--max-pixels", 400, "--s-map", tmp_path / "mask.png")[2]


def test_an_error_of_another_kind_is_not_called_a_fault_of_the_file(tmp_path):
    """As a network that runs out of memory while a clip is written."""
    with pytest.raises(RuntimeError, match="out of memory"), written_beside(tmp_path / "a.mp4"):
        raise RuntimeError("out of memory")
    with pytest.raises(GCFSRError, match=r"a\.mp4: cannot be written: No space"), written_beside(tmp_path / "a.mp4"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
