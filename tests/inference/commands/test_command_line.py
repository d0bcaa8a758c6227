"""What all commands share: examples, inputs with and without -i, answers before torch loads, devices, completion."""

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_inference import cli, console
from gcfsr_inference.commands import figures
from gcfsr_inference.console import counted

pytestmark = pytest.mark.usefixtures("no_weights")


def parsed(line: str) -> tuple[str, argparse.Namespace]:
    """The command of an example and its options, as the program reads them."""
    words = shlex.split(line, comments=True)
    words = words[words.index("gcfsr") + 1 :]  # torchrun may come before it
    words = words[: words.index(">")] if ">" in words else words[: words.index(">>")] if ">>" in words else words
    parser = cli.add_command(cli.Parser(prog=f"gcfsr {words[0]}"), words[0])
    return words[0], (parser.parse_args if words[0] == "figures" else parser.parse_intermixed_args)(words[1:])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_examples_of_a_command_are_shown_and_parse(name, capsys):
    examples = cli.command_module(name).EXAMPLES
    lines = examples.replace("\\\n", " ").strip().splitlines()
    assert lines
    assert all(parsed(line)[0] == name for line in lines)
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    assert all(line in shown for line in examples.strip().splitlines())


@pytest.mark.parametrize("kind", figures.KINDS)
def test_each_figure_has_an_example(kind, capsys):
    with pytest.raises(SystemExit):
        cli.main(["figures", kind, "--help"])
    assert f"\n  gcfsr figures {kind} " in capsys.readouterr().out


def test_inputs_with_and_without_i():
    def inputs(line: str) -> list[str] | None:
        return parsed(f"gcfsr {line}")[1].input

    assert inputs("restore a.png b.png") == inputs("restore -i a.png b.png") == ["a.png", "b.png"]
    assert inputs("restore a.png -o out b.png") == ["a.png", "b.png"]
    assert inputs("restore -o out a.png --aligned") == inputs("restore --aligned a.png") == ["a.png"]
    assert inputs("restore -o - -") == ["-"]
    assert sorted(inputs("restore a.png -i b.png") or []) == ["a.png", "b.png"]
    assert inputs("restore -o out") is None
    assert inputs("sweep a.png -o a.html") == inputs("sweep -i a.png -o a.html") == ["a.png"]


def test_missing_files_are_reported_before_torch_loads(tmp_path, outside):
    (tmp_path / "in").mkdir()
    (tmp_path / "words.png").write_text("no image")
    cv2.imwrite(str(tmp_path / "in" / "face.png"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "file").touch()
    (tmp_path / "zeros").write_bytes(bytes(9))
    lines = {
        "restore gone.png": "gone.png",
        "restore gone.png gone_too.png": "gone.png",
        "restore words.png": "words.png",
        "restore gone.mp4": "gone.mp4",
        "restore in/face.png --max-pixels 399 --aligned": "20x20",
        "restore in/face.png -v nothing": "nothing: no such checkpoint",
        "restore in/face.png --s-map gone_mask.png": "gone_mask.png",
        "restore in/face.png --landmarks gone.json": "gone.json",
        "restore in/face.png --from-sidecar gone.json": "gone.json",
        "restore in/face.png -o file/below": "file",
        f"restore {'x' * 300}.png": "File name too long",
        "restore @words.png": "no image: No such file",
        "restore @zeros": "@zeros: not a list",
        f"restore in/face.png --suffix {'x' * 101}": "--suffix",
        "restore in/face.png --batch 999999999999": "--batch",
        "restore in/face.png --draws 999999999999": "--draws",
        "restore in/face.png --jobs 999999999999": "--jobs",
        "restore in/face.png --only_center_face --faces 0": "give one of them",
        "restore": "gcfsr restore photo.jpg",
        "restore gone --jobs 2": "gone",
        "restore in/face.png --jobs 2 -o new.png": "need a folder",
        "sweep gone.png -o a.html": "gone.png",
        "sweep in/face.png -o a.html --max-pixels 399": "20x20",
        "sweep in/face.png -o a.html -v nothing": "nothing",
        "sweep in/face.png -o a.html --factors 4:16:999999999": "--factors",
        "sweep in/face.png -o a.html --factors=-4:16:3": "--factors",
        "sweep in/face.png -o a.html --factors 4:nan:3": "--factors",
        "evaluate --truth gone --out out --method gcfsr --factors 4": "gone",
        "evaluate --truth in --out out --method gone.pth --factors 4": "gone.pth",
        "evaluate --truth in --out out --method x=folder:gone --factors 4": "gone",
        "evaluate --truth in --out out --method basicsr:a.yml:gone.pth --factors 4": "a.yml",
        "evaluate --truth in --out out --method spandrel:gone.pth --factors 4": "gone.pth",
        "export -v nothing -o a.onnx": "nothing",
        "export -o a.onnx --noise fixed --seed -1": "--seed -1",
        f"export -o a.onnx --noise fixed --seed {2**70}": f"--seed {2**70}",
        "demo --port 65536": "--port 65536: at most 65535",
        "demo --port -1": "--port -1: at least 0",
        "demo --max-pixels 0": "--max-pixels 0",
        "info gone.pth": "gone.pth",
        "figures fig5 -v nothing -i in -o out": "nothing",
        "bench-train a.yml --train gone --val in --out out": "gone",
        "merge-manifests gone": "gone",
    }
    code = (
        "import sys\n"
        "from gcfsr_inference.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    print(main(line.split()), 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *lines], cwd=tmp_path, env=outside, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["2 False"] * len(lines), done.stderr
    told = done.stderr.splitlines()
    assert len(told) == len(lines), told
    for (line, words), answer in zip(lines.items(), told, strict=True):
        assert words in answer, line
        assert answer.startswith("gcfsr: error: "), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in", "words.png", "zeros"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("restore a.png --s x", "argument --s: invalid float value: 'x'"),
        ("restore a.png --noise loud", "'loud'"),
        ("restore a.png --nope", "--nope"),
        ("evaluate --nope", "--nope"),
        ("figures nope", "'nope'"),
        ("nope", "'nope'"),
    ],
)
def test_what_an_option_does_not_take_is_one_line(line, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("gcfsr: error: ")
    assert error.count("\n") == 1
    assert "--help` lists" in error


def test_options_of_photographs_with_aligned_faces_are_named(restore, face):
    status, _, error = restore(face, "--aligned", "--faces", "0", "-s", 2, "--weights-dir", face.parent)
    assert (status, error) == (0, "--upscale, --faces: for photographs; not used with --aligned\n")
    assert restore(face, "--aligned")[2] == ""


def test_one_missing_input_among_others_fails_alone(restore, face, tmp_path):
    status, _, err = restore(tmp_path / "gone.png", face, "--aligned")
    assert status == 2
    assert "gone.png: No such file" in err
    assert (tmp_path / "out" / "restored_faces" / "face_00.png").is_file()


def test_no_empty_folder_is_left(restore, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    cut = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()
    (tmp_path / "cut.png").write_bytes(cut[: len(cut) // 2])  # its header is right
    out = tmp_path / "new" / "deep"
    for name in ("clip.mp4", "cut.png"):
        assert restore(tmp_path / name, out=out)[0] == 2
    assert not (tmp_path / "new").exists()


def test_quiet_and_verbose(restore, face, tmp_path, tiny):
    (face.parent / "notes.txt").touch()
    status, out, err = restore(face.parent, "--aligned")
    assert (status, len(out.splitlines())) == (0, 1)
    assert "1 file skipped" in err
    assert restore(face.parent, "--aligned", "-q") == (0, "", "")
    status, _, err = restore(tmp_path / "gone.png", "-q")
    assert (status, err.count("\n")) == (2, 1)
    _, out, err = restore(face, "--aligned", "--verbose", "--device", "cpu")
    assert err == f"{tiny}: 32x32, factors 2 to 16, by torch on cpu\n"
    assert out.endswith(f" -> {tmp_path / 'out' / 'restored_faces' / 'face_00.png'}\n")
    console.set_level()


def test_counts_are_in_words():
    assert [counted(number, "face") for number in (0, 1, 2)] == ["no faces", "1 face", "2 faces"]


# -- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
@pytest.mark.parametrize("line", ["--help", "--version", "restore --help", "completion bash"])
@pytest.mark.parametrize("python", [[], ["-u"]])
def test_help_that_cannot_be_written_is_an_error(line, python, outside):
    command = [sys.executable, *python, "-m", "gcfsr_inference.cli", *line.split()]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, env=outside, stdout=full, stderr=subprocess.PIPE, check=False)
    expected = b"gcfsr: error: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, expected)


# -- devices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "backend", "gpus", "rank", "device"),
    [
        ("auto", "torch", 0, None, "cpu"),
        ("auto", "torch", 0, "3", "cpu"),
        ("auto", "torch", 4, None, "cuda"),
        ("auto", "torch", 4, "3", "cuda:3"),
        ("auto", "torch", 4, "5", "cuda:1"),
        ("cuda", "torch", 4, "2", "cuda:2"),
        ("cuda:0", "torch", 4, "2", "cuda:0"),
        ("cpu", "torch", 4, "2", "cpu"),
        ("auto", "onnx", 4, "2", "cpu"),
    ],
)
def test_the_device_of_a_name(name, backend, gpus, rank, device, monkeypatch):
    import torch

    from gcfsr_arch.devices import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device(name, backend) == device


# -- completion ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory) -> Path:
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    path = tmp_path_factory.mktemp("completion") / "gcfsr.bash"
    with open(path, "w") as file, contextlib.redirect_stdout(file):
        assert cli.main(["completion", "bash"]) == 0
    return path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gcfsr swe", {"sweep"}),
        ("gcfsr restore --max-p", {"--max-pixels"}),
        ("gcfsr restore --noise r", {"random"}),
        ("gcfsr restore fac", {"face.png"}),
        ("gcfsr export --checkpoint fac", {"face.png"}),
        ("gcfsr figures ta", {"table1"}),
    ],
)
def test_bash_completes(bash_script, typed, offered, tmp_path):
    (tmp_path / "face.png").touch()
    words = typed.split()
    listed = " ".join(map(shlex.quote, words))
    code = (
        f"source {bash_script}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; "
        "$(complete -p gcfsr | sed 's/.*-F //; s/ .*//') gcfsr; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert {word.strip() for word in done.stdout.splitlines()} == offered, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_other_shells_get_a_script_with_every_command(shell, capsys):
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if name not in script] == []


def test_completion_names_the_package_that_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert "pip install 'gcfsr[completion]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["restore photo.png", "sweep photo.png -o s.png", "export -o a.onnx", "info"])
def test_a_current_folder_that_was_deleted_is_one_line(command: str, tmp_path: Path) -> None:
    script = "import os, sys; os.rmdir(os.getcwd()); from gcfsr_inference.cli import main; sys.exit(main(sys.argv[1:]))"
    call = [sys.executable, "-c", script, *command.split()]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gcfsr: error: the current folder no longer exists; change to another one\n"
