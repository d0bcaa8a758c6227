"""Every form of checkpoint loads, nothing else does, and nothing is unpickled."""

import json
import os
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gcfsr_arch import GCFSR, GCFSRDiscriminator, GCFSRError, load_generator, save_generator
from gcfsr_arch.checkpoint import fit, infer_config, load_discriminator
from gcfsr_arch.released_names import released_name


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


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("blind", [True, False])
def test_released_files_are_recognised_from_keys_and_shapes(tmp_path, prefix, wrapped, blind):
    net = tiny(variant="released", blind=blind)
    state = {prefix + released_name(k, 64): v for k, v in net.state_dict().items()}
    state[f"{prefix}noises.noise0"] = torch.zeros(1, 1, 4, 4)  # wrong sizes, as the authors' files have them
    torch.save({"params_ema": state} if wrapped else state, tmp_path / "net.pth")
    back = load_generator(tmp_path / "net.pth", max_factor=16)
    assert (back.config["variant"], back.blind, back.max_factor) == ("released", blind, 16)
    same(net, back)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_basicsr_files_of_ours_load_with_and_without_the_stored_arguments(tmp_path, options):
    net = tiny(**options)
    content = {"params": tiny().state_dict(), "params_ema": net.state_dict()}
    torch.save(content | {"config": json.dumps(net.config)}, tmp_path / "net_g_1.pth")
    same(net, load_generator(tmp_path / "net_g_1.pth"))
    inferred = infer_config(net.state_dict())
    assert {key: net.config[key] for key in inferred} == pytest.approx(inferred)


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


def test_what_is_no_checkpoint_of_ours_is_named(tmp_path):
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
