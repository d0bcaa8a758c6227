"""A checkpoint is complete or absent, also when writing is interrupted or the file is damaged later."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import checkpoints as cp


def write_checkpoint(run: Path, iteration: int) -> Path:
    """A small checkpoint as the model writes it: two networks, then the state that names them."""
    manifest = {}
    for label in ("net_g", "net_d"):
        name = f"{label}_{iteration}.pth"
        cp.save_atomic({"params": {"w": torch.full((64,), float(iteration))}}, run / "models" / name)
        manifest[name] = cp.fingerprint(run / "models" / name)
    state = {
        "epoch": 0,
        "iter": iteration,
        "optimizers": [{"w": torch.randn(256)}],
        "schedulers": [],
        cp.MANIFEST: manifest,
    }
    path = run / "training_states" / f"{iteration}.state"
    cp.save_atomic(state, path)
    return path


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_checkpoint_reads_back_and_is_complete(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 10)
    assert cp.load_state(path)["iter"] == 10
    found, state, faults = cp.newest_valid(path.parent)
    assert (found, state["iter"], faults) == (path, 10, [])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_or_a_cut_never_goes_unnoticed(tmp_path: Path, data: st.DataObject) -> None:
    older, newer = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    victim = data.draw(st.sampled_from([newer, tmp_path / "models/net_g_20.pth", tmp_path / "models/net_d_20.pth"]))
    content = bytearray(victim.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    elif victim == newer:  # the archive's padding belongs to no record, so a flip there does no harm
        content[content.index(cp.load_state(newer)["optimizers"][0]["w"].numpy().tobytes()) + position % 1024] ^= 0x40
    else:
        content[position] ^= 0x40
    victim.write_bytes(content)
    found, _, faults = cp.newest_valid(newer.parent)
    assert found == older
    assert len(faults) == 1
    assert str(victim) in faults[0]


def test_networks_of_another_run_are_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a", 10)
    cp.save_atomic({"params": {"w": torch.zeros(64)}}, tmp_path / "a/models/net_g_10.pth")
    with pytest.raises(GCFSRError, match="does not belong"):
        cp.valid_state(path)
    (tmp_path / "a/models/net_g_10.pth").unlink()
    with pytest.raises(GCFSRError, match="is missing"):
        cp.valid_state(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a state", b"\x80\x04N."])
def test_an_invalid_state_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1.state"
    path.write_bytes(content)
    with pytest.raises(GCFSRError, match=r"1\.state") as caught:
        cp.load_state(path)
    assert "\n" not in str(caught.value)


def test_a_state_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, ("touch " + str(tmp_path / "owned"),)

    torch.save({"epoch": 0, "iter": 1, "optimizers": [], "schedulers": [], "x": Evil()}, tmp_path / "1.state")
    with pytest.raises(GCFSRError, match=r"1\.state"):
        cp.load_state(tmp_path / "1.state")
    assert not (tmp_path / "owned").exists()


def test_a_missing_state_and_a_plain_pth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GCFSRError, match="no such training state"):
        cp.load_state(tmp_path / "5.state")
    torch.save({"params": {}}, tmp_path / "5.state")
    with pytest.raises(GCFSRError, match="is not a training state"):
        cp.load_state(tmp_path / "5.state")


def test_prune_keeps_the_newest_and_other_files(tmp_path: Path) -> None:
    for iteration in (5, 10, 15, 100):
        write_checkpoint(tmp_path, iteration)
    cp.save_atomic({}, tmp_path / "models/net_g_latest.pth")
    cp.prune(tmp_path / "training_states", keep_last=2)
    assert names(tmp_path / "training_states") == {"15.state", "100.state"}
    kept = {f"net_{label}_{i}.pth" for label in "gd" for i in (15, 100)}
    assert names(tmp_path / "models") == kept | {"net_g_latest.pth"}


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_checkpoint(tmp_path, 10)
    before = path.read_bytes()

    def full(content: object, file: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cp.torch, "save", full)
    with pytest.raises(GCFSRError, match=r"10\.state: cannot be written: No space left"):
        cp.save_atomic({}, path)
    assert path.read_bytes() == before
    assert names(path.parent) == {"10.state"}


KILLED_WRITER = """
import sys, torch
from pathlib import Path
from gcfsr_arch.training.checkpoints import save_atomic
path = sys.argv[1]
print("ready", flush=True)
while True:
    for value in (1.0, 2.0):
        content = torch.full((1 << 18,), value)
        save_atomic({"epoch": 0, "iter": 1, "optimizers": [content], "schedulers": []}, Path(path))
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "1.state"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not path.exists():
            assert writer.poll() is None
        writer.kill()
        writer.wait()
        weights = cp.load_state(path)["optimizers"][0]
        assert (weights == weights[0]).all()
    cp.remove_partial(tmp_path)
    assert names(tmp_path) == {"1.state"}
