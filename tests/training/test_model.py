"""The step: Eq. 6-7 by hand, gradients everywhere, losses left out, bad numbers, checkpoints of another network."""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRError, load_generator, save_generator


def test_losses_are_equations_6_and_7(tiny: ModuleType) -> None:
    model = tiny.build(train__ssim_opt=None, train__consistency_opt=None, train__net_d_reg_every=1)
    data = tiny.batch()
    with torch.no_grad():
        y = model.net_g(data["lq"], data["s"], noise="zero")
    real = data["gt"].clone().requires_grad_(True)
    on_real, on_fake = model.net_d(real), model.net_d(y)
    (slope,) = torch.autograd.grad(on_real.sum(), real)
    wanted = {
        "l_g_pix": (y - data["gt"]).abs().mean(),
        "l_g_gan": 0.01 * torch.log(1 + torch.exp(-on_fake)).mean(),
        "l_d_gan": 0.01 * (torch.log(1 + torch.exp(-on_real)) + torch.log(1 + torch.exp(on_fake))).mean(),
        "l_d_r1": 0.1 / 2 * slope.square().sum() / 4,
        "out_d_real": on_real.mean(),
        "out_d_fake": on_fake.mean(),
    }
    model.feed_data(data)
    model.optimize_parameters(1)
    assert dict(model.get_current_log()) == pytest.approx({k: v.item() for k, v in wanted.items()}, rel=1e-4, abs=1e-7)


def test_a_discriminator_that_compares_faces_sees_real_and_restored_apart(tiny: ModuleType) -> None:
    model, data = tiny.build(network_d__minibatch_std=True, train__r1_reg_weight=0), tiny.batch()
    with torch.no_grad():
        y = model.net_g(data["lq"], data["s"], noise="zero")
        wanted = model.net_d(data["gt"]).mean().item(), model.net_d(y).mean().item()
    model.feed_data(data)
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert (log["out_d_real"], log["out_d_fake"]) == pytest.approx(wanted, abs=1e-5)


def test_padding_counts_in_no_loss_and_d_does_not_see_it(tiny: ModuleType) -> None:
    """Two batches that differ in the padding of their ground truth alone train in the same way."""
    data, valid = tiny.batch(), torch.ones(4, 1, 32, 32)
    valid[:, :, :, 20:] = 0
    other = {**data, "gt": data["gt"] * valid + 0.7 * (1 - valid)}
    logs = []
    for given in (data, other):
        model = tiny.build()
        model.feed_data({**given, "valid": valid})
        model.optimize_parameters(2)
        logs.append({**model.get_current_log(), "weights": sum(p.sum().item() for p in model.net_g.parameters())})
    assert logs[0] == logs[1]
    unmasked = tiny.build()
    unmasked.feed_data(other)
    unmasked.optimize_parameters(2)
    assert unmasked.get_current_log()["l_g_pix"] > 1.05 * logs[0]["l_g_pix"]


def test_lazy_r1_is_stronger_by_its_interval(tiny: ModuleType) -> None:
    every, lazy = (tiny.build(train__net_d_reg_every=n) for n in (1, 4))
    tiny.train(every, 1, first=4)
    tiny.train(lazy, 1, first=4)
    assert lazy.step.latest["l_d_r1"] == pytest.approx(4 * every.step.latest["l_d_r1"], rel=1e-6)


@pytest.mark.parametrize("changes", [{}, {"network_g__style_modulation": False}, {"network_g__blind": True}], ids=str)
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_every_parameter_receives_a_gradient(tiny: ModuleType, changes: dict[str, Any], variant: str) -> None:
    model = tiny.build(train__noise="random", network_g__variant=variant, **changes)
    kept_g, kept_d = tiny.record_gradients(model.step.g), tiny.record_gradients(model.step.d)
    tiny.train(model, 2)
    for net, kept in ((model.net_g, kept_g), (model.net_d, kept_d)):
        for number, (name, _) in enumerate(net.named_parameters()):
            assert kept[-1][number].abs().sum() > 0, name


def test_the_generator_runs_once_per_iteration_and_d_judges_without_gradient(tiny: ModuleType) -> None:
    model, calls = tiny.build(), []
    model.net_g.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    g_grads = []
    original = model.step._discriminator_step

    def spy(*args: Any) -> Any:
        g_grads.append([p.grad for p in model.net_d.parameters()])
        return original(*args)

    model.step._discriminator_step = spy
    tiny.train(model, 1)
    assert calls == [True]
    assert all(grad is None for grad in g_grads[0])  # G's step left nothing in D


def test_the_discriminator_may_step_first_on_faces_of_its_own(tiny: ModuleType) -> None:
    """As the released code does: D learns the same from the same faces, and G is judged by the D that has learned."""
    after, first = tiny.build(), tiny.build(train__net_d_first=True)
    data, calls = tiny.batch(), []
    with torch.no_grad():
        restored = first.net_g(data["lq"], data["s"], noise="zero")
    first.net_g.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    learned = [tiny.record_gradients(model.step.d) for model in (after, first)]
    for model in (after, first):
        model.feed_data(data)
        model.optimize_parameters(2)
    assert calls == [False, True]
    for number, gradient in learned[0][0].items():
        torch.testing.assert_close(learned[1][0][number], gradient, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        judged = 0.01 * torch.nn.functional.softplus(-first.net_d(restored)).mean().item()
    assert first.get_current_log()["l_g_gan"] == pytest.approx(judged, rel=1e-5)
    assert after.get_current_log()["l_g_gan"] != pytest.approx(judged, rel=1e-5)


def test_the_generator_waits_for_a_discriminator_that_steps_first(tiny: ModuleType) -> None:
    model = tiny.build(train__net_d_first=True)
    before = [p.detach().clone() for p in (*model.net_g.parameters(), *model.net_g_ema.parameters())]
    model.step._judge = lambda *_: ({"l_d_gan": torch.tensor(torch.nan, requires_grad=True)}, {})
    tiny.train(model, 1)
    assert all(map(torch.equal, before, (*model.net_g.parameters(), *model.net_g_ema.parameters())))


@pytest.mark.parametrize("left", ["pixel_opt", "gan_opt", "ssim_opt", "consistency_opt"])
def test_each_loss_alone(tiny: ModuleType, left: str) -> None:
    others = {f"train__{key}": None for key in ("pixel_opt", "gan_opt", "ssim_opt", "consistency_opt") if key != left}
    (log,) = tiny.train(tiny.build(**others), 1)
    assert [key for key in log if key.startswith("l_g_")] == [
        {"pixel_opt": "l_g_pix", "gan_opt": "l_g_gan", "ssim_opt": "l_g_ssim", "consistency_opt": "l_g_consist"}[left]
    ]
    assert ("l_d_gan" in log) == (left == "gan_opt")


def test_losses_of_a_list(tiny: ModuleType) -> None:
    listed = [{"type": "MSELoss", "loss_weight": 3}, {"type": "FocalFrequencyLoss"}, {"type": "LDLLoss"}]
    model, data = tiny.build(train__losses=listed), tiny.batch()
    with torch.no_grad():
        y = model.net_g(data["lq"], data["s"], noise="zero")
        for p in model.net_g_ema.parameters():
            p.add_(0.1 * torch.randn_like(p))  # an average unlike the network
        average = model.net_g_ema(data["lq"], data["s"], noise="zero")
    model.feed_data(data)
    model.optimize_parameters(1)
    log, terms = model.get_current_log(), model.step.criteria.terms
    assert {"l_g_pix", "l_g_ssim"} <= set(log)
    assert log["l_g_mse"] == pytest.approx(3 * (y - data["gt"]).square().mean().item(), rel=1e-4)
    assert log["l_g_focalfrequency"] == pytest.approx(terms["focalfrequency"](y, data["gt"]).item(), rel=1e-4)
    assert log["l_g_ldl"] == pytest.approx(terms["ldl"](y, data["gt"], average).item(), rel=1e-3)
    assert log["l_g_ldl"] > 0


def test_d_iterations(tiny: ModuleType) -> None:
    model = tiny.build(train__net_d_init_iters=2, train__net_d_iters=2)
    moved = []
    for iteration in range(1, 7):
        first = [next(net.parameters()) for net in (model.net_g, model.net_d)]
        before = [p.detach().clone() for p in first]
        tiny.train(model, 1, first=iteration)
        moved.append([not torch.equal(a, b) for a, b in zip(before, first, strict=True)])
    assert [g for g, _ in moved] == [False, False, False, True, False, True]
    assert all(d for _, d in moved)


def test_moved_dials_are_held_by_consistency_alone(tiny: ModuleType) -> None:
    model = tiny.build(train__mismatch={"prob": 1.0, "octaves": 1.0}, train__gan_opt=None)
    data = tiny.batch()
    data["s"] = torch.full((4,), 0.4)  # not at an end, where a move may end where it began
    model.feed_data(data)
    model.optimize_parameters(1)
    log = dict(model.get_current_log())
    assert log["l_g_pix"] == log["l_g_ssim"] == 0
    assert log["l_g_consist"] > 0


def test_the_average_is_unchanged_when_the_generators_step_is_skipped(tiny: ModuleType) -> None:
    """It has to differ from the network first: an update with the same network would change nothing to be seen."""
    model = tiny.build()
    tiny.train(model, 2)
    before = [p.clone() for p in model.net_g_ema.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(before, model.net_g.parameters(), strict=True))
    data = tiny.batch()
    data["gt"][0, 0, 0, 0] = float("nan")
    model.feed_data(data)
    model.optimize_parameters(3)
    model.step.settle()
    assert model.step.guard.in_a_row == 1
    assert all(map(torch.equal, before, model.net_g_ema.parameters()))


def test_d_s_loss_is_scaled_on_demand_alone(tiny: ModuleType) -> None:
    """`type: GANLoss` as in BasicSR: loss_weight is the generator's."""
    logs = []
    for scale in ({}, {"scale_d": True}):
        gan = {"type": "GANLoss", "gan_type": "wgan_softplus", "loss_weight": 0.01, **scale}
        logs += tiny.train(tiny.build(train__gan_opt=gan), 1)
    assert logs[0]["l_d_gan"] == pytest.approx(100 * logs[1]["l_d_gan"], rel=1e-5)
    assert logs[0]["l_g_gan"] == pytest.approx(logs[1]["l_g_gan"], rel=1e-5)


def test_the_relativistic_losses_by_hand(tiny: ModuleType) -> None:
    model = tiny.build(
        train__gan_opt={"type": "GANLoss", "loss_weight": 0.1, "relativistic": True}, train__r2_reg_weight=0.2,
        train__net_d_reg_every=1, train__ssim_opt=None, train__consistency_opt=None,
    )  # fmt: skip
    data = tiny.batch()
    with torch.no_grad():
        y = model.net_g(data["lq"], data["s"], noise="zero")
    fake = y.clone().requires_grad_(True)
    on_real, on_fake = model.net_d(data["gt"]), model.net_d(fake)
    (slope,) = torch.autograd.grad(on_fake.sum(), fake)
    gap = (on_real - on_fake).detach()
    wanted = {
        "l_g_gan": 0.1 * torch.log1p(torch.exp(gap)).mean(),
        "l_d_gan": torch.log1p(torch.exp(-gap)).mean(),
        "l_d_r2": 0.2 / 2 * slope.square().sum() / 4,
    }
    model.feed_data(data)
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert {k: log[k] for k in wanted} == pytest.approx({k: v.item() for k, v in wanted.items()}, rel=1e-4)


def test_a_discriminator_that_is_too_good_pauses(tiny: ModuleType) -> None:
    """It goes on when it has fallen back; a resume continues with its accuracy."""
    model = tiny.build(train__net_d_pause=0.8)
    moved = []
    for iteration, accuracy in enumerate([0.99, 0.99, 0.1], start=1):
        model.step.accuracy = accuracy
        before = next(model.net_d.parameters()).clone()
        tiny.train(model, 1, first=iteration)
        moved.append(not torch.equal(before, next(model.net_d.parameters())))
        assert model.step.accuracy != accuracy, "not measured while it pauses"
    assert moved == [False, False, True]
    other = tiny.build(train__net_d_pause=0.8)
    other.step.load_state(model.step.state())
    assert other.step.accuracy == model.step.accuracy


def test_a_stock_data_set_is_refused_in_one_line(tiny: ModuleType) -> None:
    """PairedImageDataset gives a small lq and no s."""
    model, data = tiny.build(), tiny.batch()
    with pytest.raises(GCFSRError, match=r"lq is 8x8, network_g\.out_size is 32; use MultiFactorDegradationDataset"):
        model.feed_data({"lq": data["lq"][..., :8, :8], "gt": data["gt"]})
    with pytest.raises(GCFSRError, match="the data set gives no s"):
        model.feed_data({"lq": data["lq"], "gt": data["gt"]})
    blind = tiny.build(network_g__blind=True)
    blind.feed_data({"lq": data["lq"], "gt": data["gt"]})
    assert blind.batch.s is None


def test_bad_numbers_skip_the_step_then_stop(tiny: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.build(train__max_bad_steps=3)
    model.saver.last_checkpoint = "run/5.state"
    logging.getLogger("basicsr").propagate = True
    before = [p.clone() for net in (model.net_g, model.net_d, model.net_g_ema) for p in net.parameters()]
    data = tiny.batch()
    data["gt"][0, 0, 0, 0] = float("nan")

    def feed(iteration: int) -> None:
        model.feed_data(data)
        model.optimize_parameters(iteration)
        after = [p for net in (model.net_g, model.net_d, model.net_g_ema) for p in net.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) == (iteration == 1)

    with caplog.at_level(logging.WARNING, logger="basicsr"):
        feed(1)
        assert not caplog.text  # the host reads an iteration later what the device has done
        tiny.train(model, 1, first=2)  # a valid step ends the row
    assert "iteration 1: generator's l_g_pix nan" in caplog.text
    feed(3)
    feed(4)
    feed(5)
    with pytest.raises(GCFSRError, match=r"3 steps in a row up to iteration 5 .*run/5\.state"):
        feed(6)
    assert all(torch.isfinite(p).all() for p in model.net_g.parameters())


def test_the_average_follows_every_step_of_the_generator(tiny: ModuleType) -> None:
    """Also where D's step is skipped, and where there is no D at all, whose pace then does not count."""
    model = tiny.build()
    model.step._r1 = lambda real: real.new_tensor(float("nan")).requires_grad_()
    before = [p.clone() for p in model.net_d.parameters()]
    tiny.train(model, 1, first=2)
    assert (model.step.guard.in_a_row, all(map(torch.equal, before, model.net_d.parameters()))) == (1, True)
    alone = tiny.build(train__gan_opt=None, network_d=None, train__net_d_iters=2)
    tiny.train(alone, 1)
    for each in (model, alone):
        pairs = zip(each.net_g.parameters(), each.net_g_ema.parameters(), tiny.build().net_g.parameters(), strict=True)
        for new, average, old in pairs:
            torch.testing.assert_close(average, (new + old) / 2)
            assert not torch.equal(new, old) or old.abs().max() == 0


def test_engine_state_goes_and_comes_back(tiny: ModuleType) -> None:
    model, other = tiny.build(train__engine={"amp": "fp16"}), tiny.build(train__engine={"amp": "fp16"})
    tiny.train(model, 2)
    state = model.step.state()
    other.step.load_state(state)
    assert other.step.state() == state
    assert state["seen"] == 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_d": None}, "network_d: train.gan_opt needs"),
        ({"train__optim_d": None}, "train.optim_d: the discriminator has no optimiser"),
        ({f"train__{k}_opt": None for k in ("pixel", "ssim", "gan", "consistency")}, "no loss is set"),
        ({"train__mismatch": {"prob": 1, "octaves": 1}, "train__consistency_opt": None}, "need train.consistency_opt"),
        ({"train__ssim_opt": {"type": "L1Loss"}}, r"train\.ssim_opt\.type: .*'SSIMLoss', got 'L1Loss'"),
        ({"train__ssim_opt": {"windows": 3}}, r"train\.ssim_opt\.windows: unknown key, did you mean 'window'"),
        (
            {
                "train__perceptual_opt": {
                    "type": "PerceptualLoss",
                    "layer_weights": {"conv1_1": 1},
                    "vgg_path": "no.pth",
                }
            },
            r"train\.perceptual_opt\.vgg_path: no\.pth is not a file",
        ),
        (
            {"train__losses": [{"type": "LDLLoss"}], "train__ema_decay": None},
            "LDLLoss compares with the moving average",
        ),
        ({"val__metrics": {"x": {"type": "calculate_fun"}}}, r"val\.metrics\.x\.type: calculate_fun is not registered"),
        ({"val__metrics": {"l": {"type": "calculate_lpips", "nett": "vgg"}}}, r"val\.metrics\.l\.nett: .*'net'"),
        ({"train__engine": {"amp": "fp8"}}, r"train\.engine\.amp"),
    ],
)
def test_options_that_cannot_work_are_named(tiny: ModuleType, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(GCFSRError, match=words):
        tiny.build(**changes)


@pytest.mark.parametrize("key", ["params", "params_ema"])
def test_the_discriminators_weights_are_those_of_the_key(tiny: ModuleType, tmp_path: Path, key: str) -> None:
    states = {name: tiny.build(seed=seed).net_d.state_dict() for seed, name in enumerate(("params", "params_ema"))}
    torch.save(states, tmp_path / "d.pth")
    model = tiny.build(seed=2, path={"pretrain_network_d": str(tmp_path / "d.pth"), "param_key_d": key})
    for name, value in model.net_d.state_dict().items():
        assert torch.equal(value, states[key][name])


def test_a_checkpoint_of_which_nothing_fits_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    torch.save({"params": {"x": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(GCFSRError, match=r"other\.pth: no tensor fits the network"):
        tiny.build(path={"pretrain_network_g": str(tmp_path / "other.pth"), "strict_load_g": False})


@pytest.mark.parametrize(
    ("lacks", "changes", "words"),
    [
        ("gt", {}, "gives no gt"),
        ("factor", {}, "gives no factor"),
        ("factor", {"train__consistency_opt": None, "train__gan_opt": {"full_factor": 8}}, "gives no factor"),
        ("factor", {"train__consistency_opt": None}, None),
    ],
)
def test_a_batch_that_lacks_what_a_loss_needs_is_refused(
    tiny: ModuleType, lacks: str, changes: dict[str, Any], words: str | None
) -> None:
    """Without factors the adversarial loss would count for nothing below full_factor."""
    model = tiny.build(**changes)
    model.feed_data({key: value for key, value in tiny.batch().items() if key != lacks})
    if words is None:
        model.optimize_parameters(1)
    else:
        with pytest.raises(GCFSRError, match=rf"datasets\.train: the data set {words}"):
            model.optimize_parameters(1)


@pytest.mark.parametrize("left", [None, "network_g", ["network_g"], ["network_g", "network_d"]])
def test_a_resume_leaves_the_networks_alone_that_the_options_name(tmp_path: Path, left: Any) -> None:
    from gcfsr_arch.training.hooks.run import point_at_networks

    folder = tmp_path / "models"
    folder.mkdir()
    for label in ("net_g", "net_d"):
        (folder / f"{label}_5.pth").touch()
    paths = {"ignore_resume_networks": left}
    opt = {"path": paths, "train": {"gan_opt": {}}, "network_g": {"type": "GCFSR"}, "network_d": {"type": "D"}}
    point_at_networks(opt, tmp_path / "training_states" / "5.state", {"iter": 5})
    wanted = {name for name in ("network_g", "network_d") if name not in (left or ())}
    assert {key.removeprefix("pretrain_") for key in paths if key.startswith("pretrain_")} == wanted


def test_vgg_that_cannot_be_downloaded(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import basicsr.archs.vgg_arch as vgg_arch

    def no_network(**_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(vgg_arch.vgg, "vgg19", no_network)
    with pytest.raises(
        GCFSRError,
        match=r"train\.perceptual_opt\.vgg_path: the weights could not be loaded \(no network\); set vgg_path",
    ):
        tiny.build(train__perceptual_opt={"type": "PerceptualLoss", "layer_weights": {"conv1_1": 1.0}})


def test_perceptual_loss_with_local_weights(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import basicsr.archs.vgg_arch as vgg_arch
    from torchvision.models import VGG
    from torchvision.models.vgg import cfgs, make_layers

    def small(**_: Any) -> VGG:  # VGG-16 without its 120 M parameters of classifier
        net = VGG(make_layers(cfgs["D"]), num_classes=1, init_weights=False)
        net.classifier = torch.nn.Identity()
        return net

    monkeypatch.setattr(vgg_arch.vgg, "vgg16", small)
    net, path = small(), tmp_path / "vgg16.pth"
    torch.save(net.state_dict(), path)
    perceptual = {
        "type": "PerceptualLoss", "vgg_path": str(path), "vgg_type": "vgg16", "layer_weights": {"conv4_3": 1.0},
        "range_norm": True, "perceptual_weight": 0.01,
    }  # fmt: skip
    model, data = tiny.build(train__perceptual_opt=perceptual), tiny.batch()
    with torch.no_grad():
        y = model.net_g(data["lq"], data["s"], noise="zero")
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        a, b = (net.features[:22](((x + 1) / 2 - mean) / std) for x in (y, data["gt"]))  # conv4_3 before its ReLU
    model.feed_data(data)
    model.optimize_parameters(1)
    assert model.get_current_log()["l_g_percep"] == pytest.approx(0.01 * (a - b).abs().mean().item(), rel=1e-4)


def test_pretrained_networks(tiny: ModuleType, tmp_path: Path) -> None:
    net = GCFSR(32, num_style_feat=32, narrow=1 / 16)
    save_generator(net, tmp_path / "g.safetensors")
    model = tiny.build(path__pretrain_network_g=str(tmp_path / "g.safetensors"))
    for mine in (model.net_g, model.net_g_ema):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), net.parameters(), strict=True))
    save_generator(GCFSR(64, num_style_feat=32, narrow=1 / 16), tmp_path / "other.safetensors")
    with pytest.raises(GCFSRError, match=r"other\.safetensors: key '"):
        tiny.build(path__pretrain_network_g=str(tmp_path / "other.safetensors"))
    partly = tiny.build(path={"pretrain_network_g": str(tmp_path / "other.safetensors"), "strict_load_g": False})
    other = load_generator(tmp_path / "other.safetensors")
    assert torch.equal(partly.net_g.levels["16"].conv.conv.weight, other.levels["16"].conv.conv.weight)
