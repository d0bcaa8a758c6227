"""Every form of checkpoint loads, nothing else does, and nothing is unpickled."""

import contextlib
import errno
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gcfsr_arch import GCFSR, GCFSRDiscriminator, GCFSRError, layers, load_generator, save_generator
from gcfsr_arch.checkpoint import load_discriminator
from gcfsr_arch.released_names import released_name
from gcfsr_arch.state_dict import fit, infer_config


def tiny(**options):
    torch.manual_seed(0)
    return GCFSR(**{"out_size": 64, "num_style_feat": 16, "narrow": 1 / 32, **options}).eval()


def same(a, b):
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(a(x, 0.5, noise="fixed"), b(x, 0.5, noise="fixed"))


OPTIONS = [
    {}, {"variant": "released"}, {"blind": True}, {"variant": "released", "blind": True}, {"style_modulation": False},
    {"feature_modulation": False}, {"channel_multiplier": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_our_safetensors_come_back_bit_for_bit(tmp_path, options):
    net = tiny(max_factor=16, min_factor=2, **options)
    save_generator(net, tmp_path / "net.safetensors", extra={"licence": "none"})
    back = load_generator(tmp_path / "net.safetensors")
    assert back.config == net.config
    assert not back.training
    same(net, back)


def test_the_same_network_gives_the_same_file(tmp_path):
    net, extra = tiny(), {"licence": "none", "data": "\u00e9t\u00e9", "author": "nobody"}
    for name in "abcd":
        save_generator(net, tmp_path / name, extra=extra)
    assert len({(tmp_path / name).read_bytes() for name in "abcd"}) == 1
    with safe_open(tmp_path / "a", "pt") as file:
        assert file.metadata().items() >= extra.items()


def test_half_precision_loads_as_float32(tmp_path):
    save_generator(tiny(), tmp_path / "net.safetensors", half=True)
    assert {p.dtype for p in load_generator(tmp_path / "net.safetensors").parameters()} == {torch.float32}


def test_half_precision_keeps_the_moments_of_the_estimator(tmp_path):
    net = tiny(conditions=("factor", "noise"), estimator=True)
    net.estimator.norm.mean.fill_(-6.001)
    net.estimator.norm.square.fill_(6.001**2 + 1e-3)  # float16 would make the variance zero
    save_generator(net, tmp_path / "net.safetensors", half=True)
    norm = load_generator(tmp_path / "net.safetensors").estimator.norm
    assert torch.equal(norm.mean, net.estimator.norm.mean)
    assert torch.equal(norm.square, net.estimator.norm.square)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("blind", [True, False])
def test_released_files_are_recognised_from_keys_and_shapes(tmp_path, prefix, wrapped, blind):
    net = tiny(variant="released", blind=blind)
    state = {prefix + released_name(k, 64): v for k, v in net.state_dict().items()}
    state[f"{prefix}noises.noise0"] = torch.zeros(1, 1, 4, 4)  # wrong sizes, as the authors' files have them
    torch.save({"params_ema": state} if wrapped else state, tmp_path / "net.pth")
    back = load_generator(tmp_path / "net.pth", max_factor=16)
    assert (back.config.variant, back.blind, back.max_factor) == ("released", blind, 16)
    same(net, back)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_basicsr_files_of_ours_load_with_and_without_the_stored_arguments(tmp_path, options):
    net = tiny(**options)
    content = {"params": tiny().state_dict(), "params_ema": net.state_dict()}
    torch.save(content | {"config": json.dumps(net.config.to_dict())}, tmp_path / "net_g_1.pth")
    same(net, load_generator(tmp_path / "net_g_1.pth"))
    inferred = infer_config(net.state_dict())
    unknown = {"blind": net.blind, "num_style_feat": 16}  # of the paper's form, and without style modulation
    assert replace(inferred, **unknown) == net.config


def test_max_factor_of_the_released_sizes():
    with torch.device("meta"):
        assert GCFSR(1024, variant="released").max_factor == 64
        assert GCFSR(512, variant="released").max_factor == 32


@pytest.mark.parametrize("std", [True, False])
def test_discriminators_load_in_both_forms(tmp_path, std):
    net = GCFSRDiscriminator(32, narrow=1 / 32, minibatch_std=std)
    torch.save({"params": net.state_dict()}, tmp_path / "ours.pth")
    torch.save({released_name(k, 32): v for k, v in net.state_dict().items()}, tmp_path / "theirs.pth")
    for file in ("ours.pth", "theirs.pth"):
        back = GCFSRDiscriminator(32, narrow=1 / 32, minibatch_std=std)
        load_discriminator(tmp_path / file, back)
        assert all(
            torch.equal(a, b) for a, b in zip(net.state_dict().values(), back.state_dict().values(), strict=True)
        )


def test_a_released_file_does_not_fit_the_papers_form():
    theirs = {released_name(k, 64): v for k, v in tiny(variant="released").state_dict().items()}
    with pytest.raises(GCFSRError, match=r"which has no 'modulation.*variant: released"):
        fit(tiny(), theirs, "theirs.pth")


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch '{self.target}'",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_does_not_run(tmp_path, zipped):
    file, trace = tmp_path / "evil.pth", tmp_path / "ran"
    if zipped:
        torch.save({"params_ema": Malicious(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(GCFSRError, match="evil"):
        load_generator(file)
    assert not trace.exists()


VALID = {"out_size": 64, "num_style_feat": 16, "narrow": 1 / 32}
CONFIGS = [
    {}, [1], "text", None, {"narrow": 1}, *(VALID | {key: value} for key, value in (
        ("out_size", 1 << 40), ("out_size", "64"), ("out_size", None), ("out_size", 64.5), ("out_size", True),
        ("out_size", 128), ("out_size", -64), ("num_style_feat", 10**9), ("num_style_feat", 16.5), ("narrow", "wide"),
        ("narrow", float("nan")), ("narrow", float("inf")), ("narrow", 1e30), ("narrow", -1), ("narrow", [1]),
        ("channel_multiplier", 0), ("channel_multiplier", 10**400), ("resample_kernel", []),
        ("resample_kernel", "1331"), ("variant", "../../etc"),
        ("resample_kernel", [0, 0]), ("resample_kernel", [1] * 100), ("resample_kernel", [1, None]),
        ("variant", {}), ("blind", "no"), ("style_modulation", 0), ("min_factor", 0), ("min_factor", -1),
        ("min_factor", float("nan")), ("max_factor", float("inf")), ("max_factor", 0), ("max_factor", 2), ("colour", 1),
    )),
]  # fmt: skip


def fails(path):
    """The message of the one error that loading ends in."""
    with pytest.raises(GCFSRError) as error:
        load_generator(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_number_of_a_stored_configuration_is_checked(tmp_path, config):
    state = tiny().state_dict()
    save_file(state, tmp_path / "net.safetensors", {"config": json.dumps(config)})
    torch.save({"params": state, "config": json.dumps(config)}, tmp_path / "net.pth")
    fails(tmp_path / "net.safetensors")
    if config is not None:
        fails(tmp_path / "net.pth")


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{", '{"out_size": ' + "9" * 10_000 + "}", '{"out_size": 1e999}'])
def test_a_stored_configuration_that_is_not_json(tmp_path, text):
    save_file(tiny().state_dict(), tmp_path / "net.safetensors", {"config": text})
    assert "configuration" in fails(tmp_path / "net.safetensors")


def changed(**values):
    return {**tiny().state_dict(), **{key.replace("__", "."): value for key, value in values.items()}}


def shared(values):
    """A state dict whose tensors are views of one."""
    return {key: values[: v.numel()].view(v.shape) for key, v in tiny().state_dict().items()}


STATES = {
    "integer keys": lambda: {1: torch.zeros(1), 2: torch.zeros(2)},
    "mixed keys": lambda: changed() | {7: torch.zeros(1)},
    "0-dim tensors": lambda: {key: torch.tensor(0.0) for key in tiny().state_dict()},
    "0-dim skips": lambda: {key: torch.tensor(0.0) if "skip" in key else v for key, v in tiny().state_dict().items()},
    "empty tensors": lambda: {key: torch.zeros(0) for key in tiny().state_dict()},
    "expanded": lambda: changed(levels__16__conv__bias=torch.zeros(1).expand(65536, 65536)),
    "expanded to the right shapes": lambda: shared(torch.zeros(1).expand(1 << 20)),
    "one storage for all": lambda: shared(torch.zeros(1 << 15)),
    "integers": lambda: changed(levels__16__conv__bias=torch.zeros(16, dtype=torch.int64)),
    "complex": lambda: changed(levels__16__conv__bias=torch.zeros(16, dtype=torch.complex64)),
    "sparse": lambda: changed(levels__16__conv__bias=torch.zeros(16).to_sparse()),
    "of tensors in a tensor": lambda: changed(
        levels__16__conv__bias=torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.strided)
    ),
    "NaN": lambda: changed(levels__16__conv__bias=torch.full((16,), float("nan"))),
    "infinite": lambda: changed(levels__16__conv__bias=torch.full((16,), float("inf"))),
    "too large for float32": lambda: changed(levels__16__conv__bias=torch.full((16,), 1e300, dtype=torch.float64)),
    "not tensors": lambda: {"a": 1, "b": "text"},
    "nested": lambda: {"a": {"b": {"c": torch.zeros(1)}}},
    "huge level": lambda: {f"encoder.skip.{10**30}.weight": torch.zeros(1, 1), "encoder.first.weight": torch.zeros(1)},
    "one level": lambda: {"encoder.skip.16.weight": torch.zeros(1, 1), "encoder.first.weight": torch.zeros(1)},
    "sixty levels": lambda: {f"encoder.skip.{n}.weight": torch.zeros(1) for n in range(60)} | {
        "encoder.first.weight": torch.zeros(1)
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("wrapped", [True, False])
def test_damaged_states_end_in_one_line(tmp_path, kind, wrapped):
    state = STATES[kind]()
    torch.save({"params_ema": state} if wrapped else state, tmp_path / "net.pth")
    fails(tmp_path / "net.pth")


def test_no_memory_is_taken_for_a_network_that_the_file_does_not_hold(tmp_path, monkeypatch):
    """The shapes are compared with a network on the meta device; none is built."""
    built, draw = [], layers.unit_normal

    def recorded(*shape):
        weight = draw(*shape)
        built.append(weight.device.type)
        return weight

    monkeypatch.setattr(layers, "unit_normal", recorded)
    state = tiny().state_dict()
    built.clear()
    save_file(state, tmp_path / "net.safetensors", {"config": json.dumps({"out_size": 4096, "narrow": 8})})
    fails(tmp_path / "net.safetensors")
    assert set(built) == {"meta"}


class TakesMemory:
    """Pickled as a call that takes a terabyte."""

    def __reduce__(self):
        return bytearray, (1 << 40,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_only_takes_memory_is_not_loaded(tmp_path, zipped):
    state = changed(extra=TakesMemory())
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    assert "holds more than tensors" in fails(tmp_path / "net.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_that_may_not_be_read_is_named_with_the_reason(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"net{suffix}"
    save_generator(tiny(), path)

    def refuse(path, flags):  # root may read every file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("gcfsr_arch.files._open_nonblocking", refuse)
    assert f"net{suffix}: Permission denied" in fails(path)


def test_files_that_are_not_checkpoints_end_in_one_line(tmp_path):
    net = tmp_path / "net.pth"
    torch.save(tiny().state_dict(), tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    for data in (
        b"root:x:0:0:root:/root:/bin/bash\n" * 20,
        b"\x80\x02",
        b"\x80",
        bytes(300),
        b"PK\x03\x04",
        good[:200],
    ):
        net.write_bytes(data)
        fails(net)
    for place in range(0, len(good), len(good) // 40):  # one byte changed
        net.write_bytes(good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :])
        with contextlib.suppress(GCFSRError):  # where it is not a weight that differs
            load_generator(net)
    with zipfile.ZipFile(tmp_path / "good.pth") as source, zipfile.ZipFile(net, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert "compressed" in fails(net)
    with open(tmp_path / "large.safetensors", "wb") as file:
        file.truncate(5 << 30)  # holds no blocks
    assert "bytes" in fails(tmp_path / "large.safetensors")
    fails(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo.pth")
        fails(tmp_path / "fifo.pth")


def test_an_unknown_checkpoint_is_named(tmp_path):
    def expect(file, words):
        with pytest.raises(GCFSRError, match=words) as error:
            load_generator(tmp_path / file)
        assert file in str(error.value)
        assert "\n" not in str(error.value)

    state = tiny().state_dict()
    expect("absent.pth", "no such")
    (tmp_path / "empty.pth").write_bytes(b"")
    expect("empty.pth", "damaged")
    (tmp_path / "text.safetensors").write_text("hello")
    expect("text.safetensors", "damaged")
    torch.save({"params": state}, tmp_path / "cut.pth")
    data = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    expect("cut.pth", "damaged")
    torch.save([1, 2], tmp_path / "list.pth")
    expect("list.pth", "no network")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    expect("other.pth", "conv1.weight")
    less = {k: v for k, v in state.items() if k != "levels.16.conv.bias"}
    torch.save(less, tmp_path / "less.pth")
    expect("less.pth", "levels.16.conv.bias")
    torch.save(state | {"extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
    expect("more.pth", "extra.weight")
    torch.save(state | {"levels.32.conv.bias": torch.zeros(7)}, tmp_path / "shape.pth")
    expect("shape.pth", "levels.32.conv.bias")
    save_file(state, tmp_path / "config.safetensors", {"config": '{"out_size": 64, "colour": 1}'})
    expect("config.safetensors", "colour")


def test_an_unwritable_target_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GCFSRError, match="cannot be written"):
        save_generator(tiny(), tmp_path / "file" / "net.safetensors")
    with pytest.raises(GCFSRError, match="cannot be written"):
        save_generator(tiny(), tmp_path / "absent" / "net.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_loading_and_a_pass_do_not_import_the_compiler(tmp_path):
    """torch._dynamo takes a second to import, which every command would wait for."""
    save_generator(GCFSR(32, num_style_feat=32, narrow=1 / 16), tmp_path / "tiny.safetensors")
    code = (
        "import sys, torch; from gcfsr_arch import load_generator\n"
        f"net = load_generator({str(tmp_path / 'tiny.safetensors')!r})\n"
        "with torch.inference_mode():\n    net(torch.zeros(1, 3, 32, 32), 0.5, noise='fixed')\n"
        "assert not {'torch._dynamo', 'torch.fx.experimental.symbolic_shapes'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
