"""The released form reproduces the arrays that the authors' code gave, from parameters drawn by a recipe.

The arrays are in `tests/golden`. Every parameter is drawn from its released name and shape, so a wrong name in
`released_names` gives other numbers.
"""

import json
import re
import zlib

import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRDiscriminator, load_generator
from gcfsr_arch.released_names import released_name
from gcfsr_arch.state_dict import fit

ATOL = 2e-5
RECIPE = (  # released name, scale, offset; the first that matches
    (r"style_conv(1|s\.\d+)\.weight", 0.1, 0.3),
    (r"condition_scale.*weight", 0.5, 0.0),
    (r"condition_scale.*", 0.3, 1.0),
    (r".*modulation\.weight", 0.5, 0.0),
    (r".*modulation\.bias", 0.2, 1.0),
    (r"to_rgb.*modulated_conv\.weight", 0.3, 0.0),
    (r".*bias", 0.1, 0.0),
    (r".*", 1.0, 0.0),
)


def drawn(name, shape):
    """A parameter by its released name: uniform numbers from PCG64's raw words, rounded to half precision."""
    count = int(np.prod(shape))
    words = np.random.PCG64(zlib.crc32(name.encode("ascii"))).random_raw((count + 3) // 4)
    k = np.asarray(words, dtype="<u8").view("<u2")[:count].astype(np.float64)
    unit = (((k + 0.5) / 65536 - 0.5) * np.sqrt(12)).reshape(shape)  # mean 0, variance 1
    scale, offset = next((scale, offset) for pattern, scale, offset in RECIPE if re.fullmatch(pattern, name))
    return torch.from_numpy((unit * scale + offset).astype(np.float16).astype(np.float32))


def drawn_state(net, size):
    """The parameters of a network under the released names."""
    names = {key: released_name(key, size) for key in net.state_dict()}
    return {name: drawn(name, net.state_dict()[key].shape) for key, name in names.items()}


def golden(root, name):
    """The arrays of one file, which is stored in parts."""
    parts = sorted((root / "tests" / "golden").glob(f"{name}.*.npz"))
    assert parts
    return {key: array for part in parts for key, array in np.load(part).items()}


def close(actual, expected, atol=ATOL):
    np.testing.assert_allclose(np.asarray(actual.detach()), expected, rtol=0, atol=atol)


def compare(data, name, tensor):
    """Compares with NAME, or its thinned form NAME.cAsB with the channel statistics; says whether there was any."""
    if name in data:
        close(tensor.reshape(data[name].shape), data[name])
        return True
    thin = [key for key in data if key.startswith(f"{name}.c") and key.split(".")[-1][1].isdigit()]
    for key in thin:
        channels, stride = (int(n) for n in key.rsplit(".c", 1)[1].split("s"))
        close(tensor[:, ::channels, ::stride, ::stride], data[key])
        close(tensor.mean((2, 3)), data[f"{name}.chmean"])
        close(tensor.std((2, 3), correction=0), data[f"{name}.chstd"])
    return bool(thin)


def captures(net):
    """Forward hooks on every part that the arrays know; returns the dict that they fill."""
    seen = {}
    enc, size = net.encoder, net.out_size

    def keep(module, name):
        module.register_forward_hook(lambda _m, _i, out: seen.__setitem__(name, out))

    def keep_bare(conv, name):
        """The modulated convolution alone: the network folds further gains into it."""
        conv.register_forward_pre_hook(lambda m, args: seen.__setitem__(name, m.forward(*args[:2])))

    keep(enc.first, "enc_first")
    for small, down in enc.down.items():
        k = (size // int(small)).bit_length() - 2
        keep(down, "enc_f16" if small == "16" else f"enc_down{k}")
    for level, skip in enc.skip.items():
        keep(skip, f"shift_{level}")
    keep(enc.head.down1, "final_down1")
    keep(enc.head.down2, "final_down2")
    keep(enc.head, "latent")
    keep(enc.top, "const16")
    for level, block in net.levels.items():
        if block.up is None:
            keep_bare(block.conv.conv, "mod_16")
        else:
            keep_bare(block.up.conv, f"modup_{level}")
            keep(block.up, f"genup_{level}")
        block.register_forward_hook(
            lambda _m, _i, out, level=level: seen.update({f"gen_{level}": out[0], f"rgb_{level}": out[1]})
        )
    return seen


@pytest.mark.parametrize(("case", "blind"), [("P1_sr64", False), ("P2_blind64", True)])
def test_generator_arrays(root, tmp_path, case, blind):
    data = golden(root, case)
    with torch.device("meta"):
        plan = GCFSR(64, variant="released", blind=blind)
    torch.save({"params_ema": drawn_state(plan, 64)}, tmp_path / "net.pth")
    net = load_generator(tmp_path / "net.pth")
    assert (net.out_size, net.blind, net.config.variant) == (64, blind, "released")
    x = torch.from_numpy(data["input"])
    noise = [torch.from_numpy(data[f"noise{i}"]) for i in range(5)]
    seen = captures(net)
    prefixes = [""] if blind else ["s0.", "s1.", "s2."]
    for prefix in prefixes:
        s = None if blind else torch.from_numpy(data[f"{prefix}cond"])
        with torch.no_grad():
            seen["output"] = net(x, s, noise=noise)
            sigmas = net.sigmas(s)
        for size, (enc, gen) in sigmas.items():
            seen[f"sigma_enc_{size}"], seen[f"sigma_gen_{size}"] = enc, gen
            raw_enc, raw_gen = net.modulation.raw(torch.ones(1, 1) if blind else s[:, :1], size)
            seen[f"scale1_raw_{size}"], seen[f"scale2_raw_{size}"] = raw_gen, raw_enc
        compared = sum(compare(data, f"{p}{name}", t) for name, t in seen.items() for p in {"", prefix})
        assert compared == len(seen) > 25
        double = net.double()
        with torch.no_grad():
            out = double(x.double(), None if blind else s.double(), noise=noise)
        close(out, data[f"{prefix}output64"], 1e-9)
        net.float()


@pytest.mark.parametrize("std", [False, True])
def test_discriminator_arrays(root, std):
    prefix = "std." if std else "no_std."
    data = {key.removeprefix(prefix): array for key, array in golden(root, "P3_disc64").items()}
    net = GCFSRDiscriminator(64, minibatch_std=std)
    fit(net, drawn_state(net, 64))
    seen = {}
    parts = {"body0": net.first, "final_conv": net.final_conv, "linear0": net.linear1}
    parts |= {f"body{i + 1}": block for i, block in enumerate(net.blocks)}
    for name, part in parts.items():
        part.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    x = torch.from_numpy(data["input"])
    with torch.no_grad():
        seen["output"] = net(x)
    assert sum(compare(data, name, tensor) for name, tensor in seen.items()) == 8
    x = x.double().requires_grad_()  # single precision's gradient differs by 3e-5 between processors
    out = net.double()(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    close(out, data["output64"], 1e-9)
    close(grad, data["input_grad"], 1e-8)
    np.testing.assert_allclose(grad.square().sum((1, 2, 3)).mean(), data["r1"], rtol=1e-4)


@pytest.mark.parametrize("form", ["gcfsr_sr_1024", "gcfsr_sr_512", "gcfsr_blind_512", "gcfsr_sr_64", "gcfsr_blind_64"])
def test_released_names_and_counts(shared, form):
    rows = [r.split("\t") for r in (shared / "parity" / f"{form}.state_dict.txt").read_text().splitlines()]
    theirs = {name: [int(n) for n in shape.split(",")] for name, shape, kind in rows if kind == "param"}
    with torch.device("meta"):
        net = GCFSR(int(form.rsplit("_", 1)[1]), variant="released", blind="blind" in form)
    ours = {released_name(key, net.out_size): list(value.shape) for key, value in net.state_dict().items()}
    assert set(ours) == set(theirs)
    for name, shape in theirs.items():
        assert int(np.prod(shape)) == int(np.prod(ours[name])), name
    counts = (shared / "parity" / "param_counts.txt").read_text()
    if form in counts:
        total = int(counts.split(f"{form}: total parameters ")[1].split(";")[0])
        assert sum(p.numel() for p in net.parameters()) == total


def test_golden_files_are_small_and_of_64_pixels(root):
    files = sorted((root / "tests" / "golden").glob("*.npz"))
    assert len(files) == 7
    assert all(file.stat().st_size < 1_000_000 for file in files)
    assert json.loads(str(golden(root, "P1_sr64")["meta"]))["out_size"] == 64
