"""Large runs: lists and patterns, manifests, what is skipped, kills, shares of several processes."""

import codecs
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.cli import main
from gcfsr_inference.commands.restore.manifest import share

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six faces of 20x20 pixels of smooth noise."""
    return write_faces(tmp_path / "in", 6)


def write_faces(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.GaussianBlur(noise, (5, 5), 0))
    return folder


def lines(folder: Path) -> list[dict]:
    return [
        json.loads(line) for path in sorted(folder.glob("manifest*.jsonl")) for line in path.read_text().splitlines()
    ]


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "restored_faces").iterdir()}


def names(folder: Path) -> list[str]:
    return [Path(line["input"]).name for line in lines(folder)]


def test_lists_and_patterns_are_their_inputs(restore, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("in/001.png\n\nin/00[34].png\n")
    assert restore("-i", "@list.txt", "--aligned")[0] == 2  # a line is a name, not a pattern
    assert restore("-i", "in/00[34].png", "in/**/005.png", "--aligned", out=tmp_path / "b")[0] == 0
    assert sorted(results(tmp_path / "out")) == ["001_00.png"]
    assert sorted(results(tmp_path / "b")) == ["003_00.png", "004_00.png", "005_00.png"]
    odd = folder / "a\u2028b\x85c\xff.png"
    odd.write_bytes((folder / "000.png").read_bytes())
    Path("windows.txt").write_bytes(codecs.BOM_UTF8 + f"in/000.png\r\nin/{odd.name}\r\n".encode())
    assert restore("-i", "@windows.txt", "--aligned", out=tmp_path / "c")[0] == 0
    assert sorted(results(tmp_path / "c")) == ["000_00.png", f"{odd.stem}_00.png"]
    Path("empty.txt").write_text("\n")
    assert "list is empty" in restore("-i", "@empty.txt")[2]
    assert "no file matches" in restore("-i", "in/*.jpg")[2]
    assert "missing.txt" in restore("-i", "@missing.txt")[2]


def test_what_is_restored_is_skipped(restore, folder, tmp_path):
    (folder / "bad.png").write_bytes(b"no image")
    call = ("-i", folder, "--aligned", "--skip-existing")
    assert restore(*call)[0] == 2
    out = tmp_path / "out"
    assert names(out) == [*(f"{number:03d}.png" for number in range(6)), "bad.png"]
    assert "error" in lines(out)[-1]
    assert {"input", "sha256", "settings", "output", "faces", "seconds"} <= lines(out)[0].keys()
    assert lines(out)[0]["faces"][0]["factor"] >= 2

    def again(*more) -> list[str]:
        count = len(lines(out))
        restore(*call, *more)
        return names(out)[count:]

    assert again() == ["bad.png"]  # what failed is tried again
    (out / "restored_faces" / "002_00.png").unlink()
    assert again() == ["002.png", "bad.png"]
    (folder / "003.png").write_bytes((folder / "004.png").read_bytes())
    assert again() == ["003.png", "bad.png"]
    assert len(again("--seed", 1)) == 7
    assert again("--seed", 1) == ["bad.png"]
    assert len(again()) == 7  # the results are those of the other seed


def test_a_killed_run_resumes_with_nothing_twice_and_nothing_half_written(tiny, tmp_path):
    folder, out = write_faces(tmp_path / "in", 40), tmp_path / "out"
    command = [sys.executable, "-m", "gcfsr_inference.cli", "restore", "-i", folder, "-o", out, "--aligned"]
    command += ["--skip-existing", "--checkpoint", tiny]
    for wanted in (5, 15):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(list(out.glob("restored_faces/*.png"))) < wanted:
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
        running.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert sorted(names(out)) == [f"{number:03d}.png" for number in range(40)]  # each has one line: done once
    assert len(results(out)) == 40
    assert all(cv2.imread(str(path)) is not None for path in (out / "restored_faces").iterdir())
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def test_an_incomplete_line_of_a_killed_run_is_dropped(restore, folder, tmp_path):
    assert restore("-i", folder, "--aligned", "--skip-existing")[0] == 0
    path = tmp_path / "out" / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert restore("-i", folder, "--aligned", "--skip-existing")[0] == 0
    assert names(tmp_path / "out") == [f"{number:03d}.png" for number in range(6)]
    path.write_text('{"input": 3}\n')
    assert "line 1 is not one of a manifest" in restore("-i", folder, "--aligned", "--skip-existing")[2]


def test_a_manifest_that_is_no_file_is_refused_at_once(restore, folder, tmp_path):
    (tmp_path / "out").mkdir()
    manifest = tmp_path / "out" / "manifest.jsonl"
    manifest.symlink_to("/dev/zero")
    status, _, error = restore(folder, "--aligned", "--skip-existing")
    assert (status, error.count("\n")) == (2, 1)
    assert "manifest.jsonl: not a regular file" in error
    manifest.unlink()
    manifest.mkdir()
    assert "manifest.jsonl" in restore(folder, "--aligned", "--skip-existing")[2]


def test_shares_are_the_whole(restore, folder, tmp_path, capsys):
    assert restore("-i", folder, "--aligned", "--report", out=tmp_path / "whole")[0] == 0
    for number in (1, 3):
        assert restore("-i", folder, "--aligned", "--report", "--shard", f"{number}/3")[0] == 0
    out = tmp_path / "out"
    assert names(out) == ["000.png", "003.png", "002.png", "005.png"]
    assert main(["merge-manifests", str(out)]) == 2
    assert "no manifest of share 2 of 3" in capsys.readouterr().err
    assert restore("-i", folder, "--aligned", "--report", "--shard", "2/3")[0] == 0
    assert main(["merge-manifests", str(out)]) == 0
    assert sorted(names(out)) == [f"{number:03d}.png" for number in range(6)]
    assert [path.name for path in out.glob("*.jsonl")] == ["manifest.jsonl"]
    assert results(out) == results(tmp_path / "whole")
    assert [path.name for path in out.glob("report*")] == ["report.json"]
    joined, whole = (report(path) for path in (out, tmp_path / "whole"))
    assert joined == whole


def report(folder: Path) -> list[dict]:
    """The entries of a report, with outputs seen from the folder."""
    entries = json.loads((folder / "report.json").read_text())
    return [{**entry, "output": str(Path(entry["output"]).relative_to(folder))} for entry in entries]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_is_not_resumed_replaces_the_report(restore, folder, tmp_path, jobs):
    out = tmp_path / "out"
    assert restore(folder, "--aligned", "--report", "--shard", "1/3")[0] == 0  # begun and given up
    for inputs in (["000.png", "001.png"], ["002.png", "003.png", "004.png"]):
        paths = [folder / name for name in inputs]
        assert restore(*paths, "--aligned", "--report", "--jobs", jobs)[0] == 0
        assert [Path(entry["input"]).name for entry in report(out)] == inputs
    paths = [folder / "001.png", folder / "005.png"]
    assert restore(*paths, "--aligned", "--report", "--skip-existing", "--jobs", jobs, "--seed", 1)[0] == 0
    assert len(report(out)) == 5


@pytest.mark.parametrize("share", [(), ("--shard", "1/1")])
def test_a_resumed_run_continues_the_report(restore, folder, tmp_path, share):
    """A share that a killed run began has a report of its own."""
    late, out = folder / "000.png", tmp_path / "out"
    data = late.read_bytes()
    late.write_bytes(b"no image")
    call = (folder, "--aligned", "--report", "--skip-existing", *share)
    assert restore(*call)[0] == 2
    late.write_bytes(data)
    assert restore(*call)[0] == 0
    (path,) = out.glob("report*.json")
    entries = json.loads(path.read_text())
    assert [Path(entry["input"]).name for entry in entries] == [f"{number:03d}.png" for number in (1, 2, 3, 4, 5, 0)]
    assert all(entry["faces"][0]["consistency"] for entry in entries)
    assert "no image restored; 6 skipped" in restore(*call)[2]
    assert json.loads(path.read_text()) == entries
    path.write_text(json.dumps(entries) + " " * (65 << 20))  # as long as that of a hundred thousand faces
    assert restore(*call)[0] == 0
    path.write_text("[3]")
    assert f"{path.name}: not a report of `gcfsr restore`" in restore(*call)[2]


def test_an_input_is_skipped_only_where_all_that_is_asked_for_was_written(restore, folder, tmp_path):
    call = (folder, "--aligned", "--skip-existing")
    assert restore(*call)[0] == 0
    assert restore(*call, "--sidecar")[0] == 0
    sidecars = list((tmp_path / "out" / "restored_faces").glob("*.json"))
    assert len(sidecars) == 6
    assert "no image restored; 6 skipped" in restore(*call)[2]
    sidecars[0].unlink()
    assert "no image restored; 6 skipped" in restore(*call)[2]
    assert "5 skipped" in restore(*call, "--sidecar")[2]
    assert sidecars[0].is_file()
    assert restore(*call, "--seed", 1)[0] == 0
    assert restore(*call, "--seed", 1, "--sidecar")[0] == 0
    assert {json.loads(path.read_text())["options"]["seed"] for path in sidecars} == {1}


def test_the_manifest_that_was_written_last_decides(restore, folder, tmp_path):
    call = (folder, "--aligned", "--skip-existing")
    assert restore(*call, "--shard", "1/1")[0] == 0
    first = results(tmp_path / "out")
    assert restore(*call, "--seed", 1)[0] == 0
    assert results(tmp_path / "out") != first
    assert restore(*call)[0] == 0
    assert results(tmp_path / "out") == first


@pytest.mark.parametrize("parts", [("1/2", "2/2"), ()], ids=["shares", "whole"])
def test_a_resume_in_another_number_of_shares_keeps_all_entries(restore, folder, tmp_path, capsys, parts):
    late, out = folder / "005.png", tmp_path / "out"
    data = late.read_bytes()
    late.write_bytes(b"no image")
    call = (folder, "--aligned", "--report", "--skip-existing")
    assert [restore(*call, "--shard", f"{number}/3")[0] for number in (1, 2, 3)] == [0, 0, 2]
    late.write_bytes(data)
    if parts:
        assert [restore(*call, "--shard", part)[0] for part in parts] == [0, 0]
        os.utime(out / "report.3-of-3.json")  # as if that share went on: its former error is no news
        assert main(["merge-manifests", str(out)]) == 0
    else:
        assert restore(*call)[0] == 0
    assert [path.name for path in out.glob("report*")] == ["report.json"]
    assert sorted(Path(entry["input"]).name for entry in report(out)) == [f"{number:03d}.png" for number in range(6)]
    assert main(["merge-manifests", str(out)]) == 0
    assert "6 inputs, 0 failed" in capsys.readouterr().out


def test_a_report_that_is_none_is_named_and_kept(restore, folder, tmp_path, capsys):
    assert restore("-i", folder, "--aligned", "--report", "--shard", "1/1")[0] == 0
    path = tmp_path / "out" / "report.1-of-1.json"
    path.write_text('[{"output": "a"}]')
    assert main(["merge-manifests", str(tmp_path / "out")]) == 2
    assert "report.1-of-1.json: not a report of `gcfsr restore`: 0.input: Field required" in capsys.readouterr().err
    assert path.is_file()
    assert (tmp_path / "out" / "manifest.1-of-1.jsonl").is_file()


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [("2/8", {}, (2, 8)), (None, {}, None), (None, {"RANK": "0", "WORLD_SIZE": "1"}, None),
     (None, {"RANK": "3", "WORLD_SIZE": "4"}, (4, 4)), ("1/2", {"RANK": "3", "WORLD_SIZE": "4"}, (1, 2))],
)  # fmt: skip
def test_a_share_comes_from_the_option_or_the_launcher(given, environment, expected):
    class Args:
        shard = given

    assert share(Args, environment) == expected


@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "1", "1/0", "-1/2"])
def test_invalid_shares_are_named(text):
    class Args:
        shard = text

    with pytest.raises(GCFSRError, match="is not a share"):
        share(Args, {})
    with pytest.raises(GCFSRError, match="RANK and WORLD_SIZE"):
        share(type("None_", (), {"shard": None}), {"WORLD_SIZE": "2"})


def test_two_processes_give_the_bytes_of_one(restore, folder, tmp_path):
    (folder / "bad.png").write_bytes(b"no image")
    assert restore("-i", folder, "--aligned", out=tmp_path / "one")[0] == 2
    status, _, err = restore("-i", folder, "--aligned", "--jobs", 2, "--skip-existing", out=tmp_path / "two")
    assert (status, "images/s" in err) == (2, True)
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert sorted(names(tmp_path / "two")) == [*(f"{number:03d}.png" for number in range(6)), "bad.png"]
    (folder / "bad.png").unlink()
    again = restore("-i", folder, "--aligned", "--jobs", 2, "--skip-existing", out=tmp_path / "two")
    assert (again[0], again[2]) == (0, "no image restored; 6 skipped\n")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the processes are listed in /proc")
@pytest.mark.parametrize(
    ("number", "to_all", "at_work", "status", "said"),
    [
        (signal.SIGINT, True, False, 130, "gcfsr: interrupted\n"),  # Ctrl-C in a terminal
        (signal.SIGINT, False, True, 130, "gcfsr: interrupted\n"),
        (signal.SIGTERM, False, True, 143, ""),
    ],
    ids=["Ctrl-C at the start", "SIGINT", "SIGTERM"],
)
def test_a_signal_ends_all_processes_of_jobs(
    folder: Path, tiny: Path, tmp_path: Path, number: int, to_all: bool, at_work: bool, status: int, said: str
) -> None:
    out = tmp_path / "out"
    for copy in range(200):  # more than is done before the signal
        (folder / f"copy{copy}.png").symlink_to(folder / "000.png")
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in background jobs
    )
    script += "from gcfsr_inference.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "restore", "-i", str(folder), "-o", str(out), "-q", "-v", str(tiny)]
    command += ["--aligned", "--jobs", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    while running.poll() is None:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        workers = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
        if len(workers) == 2 and (not at_work or any(out.glob("*/*.png"))):
            break
        time.sleep(0.01)
    (os.killpg if to_all else os.kill)(running.pid, number)
    error = running.communicate(timeout=600)[1].decode()  # it and all that write there have ended
    assert (running.returncode, error) == (status, said)
    assert not list(out.rglob(".*"))
    assert len(list(out.glob("restored_faces/*.png"))) < 206
    assert out.is_dir() == any(out.rglob("*.*"))


def test_large_runs_need_a_folder(restore, folder, tmp_path):
    assert (
        "need a folder" in restore("-i", folder / "000.png", "--aligned", "--skip-existing", out=tmp_path / "a.png")[2]
    )
