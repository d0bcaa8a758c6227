"""Metrics by networks against the packages called directly; what weights may and may not do."""

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.metric_weights import availability
from gcfsr_measure import catalogue, measures, networks
from gcfsr_measure.faces import ARCFACE_BOX, face_crop
from gcfsr_measure.frechet import frechet_distance
from gcfsr_measure.frozen import fill
from gcfsr_measure.lite0 import EfficientNetLite0
from gcfsr_measure.measures import Case


def arcface_crop(image: np.ndarray) -> np.ndarray:
    return face_crop(image, ARCFACE_BOX, 112)


def image(seed: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """A random image with structure: noise smoothed a little."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.float32)
    return ((noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 3).astype(np.uint8)


def case(seed: int, size: tuple[int, int] = (64, 64)) -> Case:
    return Case(image(seed, size), image(seed + 1000, size), image(seed, (16, 16)))


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return data.astronaut()[..., ::-1].copy()


def random_state(build: object, path: Path, seed: int = 0) -> Path:
    """Seeded random weights of a torchvision network, as a state dict file."""
    torch.manual_seed(seed)
    torch.save(build(weights=None).state_dict(), path)  # type: ignore[operator]
    return path


def unit(images: list[np.ndarray]) -> torch.Tensor:
    """BGR images -> (N, 3, H, W) RGB in [-1, 1], spelt out."""
    rgb = [torch.tensor(image[:, :, ::-1].transpose(2, 0, 1).copy()) for image in images]
    return torch.stack(rgb) / 127.5 - 1


def test_lpips_equals_the_package_called_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lpips = pytest.importorskip("lpips")
    import torchvision

    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    path = random_state(torchvision.models.alexnet, hub / "alexnet-owt-7be5be79.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))  # the package finds "its download" there
    direct = lpips.LPIPS(net="alex", verbose=False)
    cases = [case(seed) for seed in range(3)]
    with torch.no_grad():
        wanted = direct(unit([c.result for c in cases]), unit([c.gt for c in cases])).flatten().tolist()
    entry = catalogue.entry_of("lpips")
    found, status = availability(entry, tmp_path)
    assert (found, status) == (path, "ok")
    assert entry.make(found, "cpu")(cases) == pytest.approx(wanted, rel=1e-5)
    same = Case(cases[0].gt, cases[0].gt, cases[0].low)
    assert entry.make(found, "cpu")([same]) == [pytest.approx(0, abs=1e-7)]


@pytest.mark.parametrize(
    ("net", "places"),  # of the convolutions in torchvision's `features`; SqueezeNet's are found by name
    [
        ("alex", (0, 3, 6, 8, 10)),
        ("squeeze", ()),
        pytest.param("vgg", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), marks=pytest.mark.slow),
    ],
)
def test_lpips_takes_each_layer_from_its_own_place(net: str, places: tuple[int, ...], tmp_path: Path) -> None:
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    direct = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    if places:
        convs = [module for module in direct.net.modules() if isinstance(module, torch.nn.Conv2d)]
        pairs = zip(places, convs, strict=True)
        state = {f"features.{i}.{key}": value for i, conv in pairs for key, value in conv.state_dict().items()}
    else:
        import torchvision

        torch.manual_seed(0)
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "net.pth")
    distance = networks.lpips_distance(tmp_path / "net.pth", net, "cpu")
    a, b = image(1, (64, 64)), image(2, (64, 64))
    to = lambda x: torch.tensor(x[None, :, :, ::-1].copy()).permute(0, 3, 1, 2)  # noqa: E731
    with torch.no_grad():
        assert distance(to(a), to(b)).item() == pytest.approx(direct(unit([a]), unit([b])).item(), rel=1e-5)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded random weights in the form of the FID network's file."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("fid") / "pt_inception-2015-12-05-6726825d.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        torch.save(module.FeatureExtractorInceptionV3("x", ["2048"]).state_dict(), path)
    return path


class Corner(torch.nn.Module):
    """A feature network of twelve dimensions for torchmetrics."""

    num_features = 12

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :2, :2].flatten(1).double()


def test_fid_is_torch_fidelitys_features_and_torchmetrics_distance(inception_file: Path) -> None:
    image = pytest.importorskip("torchmetrics.image.fid")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    cases = [case(seed, (96, 80)) for seed in range(2)]
    stack = np.stack([one.result[..., ::-1] for one in cases])
    direct = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(inception_file))
    wanted = direct(torch.from_numpy(stack).permute(0, 3, 1, 2))[0].numpy()
    found = np.array(catalogue.entry_of("fid").make(inception_file, "cpu")(cases))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)

    rng = np.random.default_rng(0)
    real, fake = (torch.from_numpy(rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)) for n in (40, 30))
    metric = image.FrechetInceptionDistance(feature=Corner())
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    ours = frechet_distance(Corner()(real).numpy(), Corner()(fake).numpy())
    assert ours == pytest.approx(metric.compute().item(), rel=1e-4)


@pytest.mark.slow
def test_arcface_is_facexlibs_network_on_the_aligned_crop(tmp_path: Path) -> None:
    arch = pytest.importorskip("facexlib.recognition.arcface_arch")
    torch.manual_seed(0)
    direct = arch.Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se").eval()
    path = tmp_path / "recognition_arcface_ir_se50.pth"
    torch.save(direct.state_dict(), path)
    one = case(0, (128, 128))
    with torch.no_grad():
        a, b = direct(unit([arcface_crop(one.result)])), direct(unit([arcface_crop(one.gt)]))
    measure = catalogue.entry_of("arcface").make(path, "cpu")
    assert measure([one])[0] == pytest.approx((a @ b.T).item(), abs=1e-5)
    assert measure([Case(one.gt, one.gt, one.low)])[0] == pytest.approx(1, abs=1e-6)


def onnx_mean(path: Path) -> Path:
    """An ONNX 'embedding': the mean of each channel."""
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    ends = [h.make_tensor_value_info("x", 1, ["n", 3, 112, 112]), h.make_tensor_value_info("y", 1, ["n", 3])]
    nodes = [h.make_node("GlobalAveragePool", ["x"], ["p"]), h.make_node("Flatten", ["p"], ["y"])]
    graph = h.make_graph(nodes, "mean", ends[:1], ends[1:])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("name", "query", "scale"),
    [
        ("Mean3", "?norm=half", lambda x: x / 127.5 - 1),
        ("Mean3", "?norm=imagenet", lambda x: (x / 255 - networks.IMAGENET_MEAN) / networks.IMAGENET_STD),
        ("Mean3", "?norm=raw", lambda x: x),
        ("w600k_r50", "", lambda x: x / 127.5 - 1),
        ("MobileFaceNet", "", lambda x: (x / 255 - networks.IMAGENET_MEAN) / networks.IMAGENET_STD),
        ("face_recognition_sface_2021dec", "", lambda x: x),
    ],
)
def test_an_embedding_by_path_has_its_own_name_and_normalisation(
    name: str, query: str, scale: Callable, tmp_path: Path
) -> None:
    path = onnx_mean(tmp_path / f"{name}.onnx")
    entry = catalogue.entry_of(f"cosine:{path}{query}")
    assert entry.name == f"{name} cosine"
    one = case(5, (128, 128))
    a, b = (scale(arcface_crop(x)[..., ::-1].reshape(-1, 3).mean(0)) for x in (one.result, one.gt))
    wanted = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    found = availability(entry, tmp_path)[0]
    assert entry.make(found, "cpu")([one])[0] == pytest.approx(wanted, abs=1e-4)


def test_an_embedding_must_be_onnx_and_its_normalisation_known(tmp_path: Path) -> None:
    with pytest.raises(GCFSRError, match="norm=none is unknown"):
        networks.onnx_embedding(onnx_mean(tmp_path / "Mean3.onnx"), "none")
    with pytest.raises(GCFSRError, match="give the input's normalisation: half"):
        networks.onnx_embedding(tmp_path / "Mean3.onnx")
    with pytest.raises(GCFSRError, match="not an ONNX model"):
        networks.onnx_embedding(Path(__file__), "half")


@pytest.mark.parametrize(
    ("side", "operator", "words"),
    [(112, "Identity", r"gives \(1, 3, 112, 112\) for one image"), (64, "GlobalAveragePool", "not a model of one")],
)
def test_an_onnx_file_that_is_no_embedding_is_named(
    tmp_path: Path, side: int, operator: str, words: str, capfd
) -> None:
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    ends = [h.make_tensor_value_info("x", 1, [1, 3, side, side]), h.make_tensor_value_info("y", 1, None)]
    graph = h.make_graph([h.make_node(operator, ["x"], ["y"])], "other", ends[:1], ends[1:])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(GCFSRError, match=rf"a\.onnx: .*{words}"):
        networks.onnx_embedding(tmp_path / "a.onnx", "half")
    assert capfd.readouterr().err == ""


def test_lite0_names_what_it_sees(shared: Path) -> None:
    data = pytest.importorskip("skimage.data")
    path = shared / "weights" / "efficientnet-lite0-57934424.pth"
    net = fill(EfficientNetLite0(), read_state(path)[0], path)
    for name, classes in (("chelsea", {281, 282, 285}), ("coffee", {967, 968})):  # cats; espresso, cup
        image = torch.from_numpy(getattr(data, name)()[:300, 50:350].copy()).permute(2, 0, 1)[None] / 255
        x = torch.nn.functional.interpolate(image.float(), (224, 224), mode="bilinear", antialias=True)
        x = (x - torch.tensor(networks.IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(networks.IMAGENET_STD).view(3, 1, 1)
        assert net.classify(x).argmax().item() in classes  # type: ignore[operator]


def test_identity_is_opencvs(shared: Path, astronaut: np.ndarray) -> None:
    """MobileFaceNet in ONNX Runtime against OpenCV's DNN module."""
    path = shared / "weights" / "MobileFaceNet.onnx"
    face = astronaut[:256, 96:352]
    worse = np.clip(face.astype(int) + np.random.default_rng(0).integers(-40, 40, face.shape), 0, 255).astype(np.uint8)
    net = cv2.dnn.readNetFromONNX(str(path))
    vectors = []
    for image in (face, worse):
        x = (arcface_crop(image)[..., ::-1] / 255 - networks.IMAGENET_MEAN) / networks.IMAGENET_STD
        net.setInput(x.transpose(2, 0, 1)[None].astype(np.float32))
        vectors.append(net.forward().ravel().copy())
    wanted = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    found = catalogue.entry_of("mobilefacenet").make(path, "cpu")([Case(face, worse, face)])[0]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_squeezenet_metrics_equal_torchvisions_layers_one_by_one(tmp_path: Path) -> None:
    import torchvision

    path = random_state(torchvision.models.squeezenet1_1, tmp_path / "s.pth")
    net = torchvision.models.squeezenet1_1(weights=None).eval()
    net.load_state_dict(torch.load(path))
    one = case(3)
    x = (unit([one.result, one.gt]) + 1) / 2
    x = (x - torch.tensor(networks.IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(networks.IMAGENET_STD).view(3, 1, 1)
    depths = []
    with torch.no_grad():
        for index, layer in enumerate(net.features):
            x = layer(x.clone())
            if index in (1, 4, 7, 9, 12):
                a, b = x / x.norm(dim=1, keepdim=True).clamp(min=1e-9)
                depths.append((a - b).square().sum(0).mean().item())
    distance = catalogue.entry_of("squeezenet").make(path, "cpu")([one])[0]
    assert distance == pytest.approx(np.mean(depths), rel=1e-3)
    features = catalogue.entry_of("squeezenet-frechet").make(path, "cpu")([one])[0]
    np.testing.assert_allclose(features, x[0].mean((1, 2)), rtol=1e-4, atol=1e-6)


def test_values_do_not_depend_on_order_or_batch(tmp_path: Path) -> None:
    import torchvision

    cases = [case(seed, size) for seed, size in enumerate([(64, 64), (80, 64), (64, 64), (64, 64)])]
    lpips = pytest.importorskip("lpips") and random_state(torchvision.models.alexnet, tmp_path / "a.pth")
    squeeze = random_state(torchvision.models.squeezenet1_1, tmp_path / "s.pth")
    for measure in (
        measures.psnr_rgb(None, "cpu"), measures.ssim_y(None, "cpu"), measures.lr_consistency(None, "cpu"),
        measures.lpips(lpips, "cpu", net="alex"), measures.squeezenet(squeeze, "cpu"),
        measures.onnx_cosine(onnx_mean(tmp_path / "m.onnx"), "cpu", norm="imagenet"),
    ):  # fmt: skip
        together = measure(cases)
        assert together == pytest.approx([measure([one])[0] for one in cases], rel=1e-5)
        assert together[::-1] == pytest.approx(measure(cases[::-1]), rel=1e-5)


def test_missing_weights_are_reported_and_downloaded_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no weights of the user
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, to, progress: asked.append((url, to)))
    entry = catalogue.entry_of("lpips")
    (tmp_path / "w").mkdir()
    path, status = availability(entry, tmp_path / "w")
    assert (path, status) == (None, "no weights: alexnet-owt-7be5be79.pth goes to w")
    assert not asked
    path, status = availability(entry, tmp_path / "w", may_download=True)
    assert (path, status) == (tmp_path / "w" / "alexnet-owt-7be5be79.pth", "ok")
    assert asked == [(entry.url, str(path))]
    with pytest.raises(GCFSRError, match="metric lpisp: unknown"):
        catalogue.entry_of("lpisp")


class Harm:
    def __reduce__(self) -> tuple:
        return (Path("harm_was_done").touch, ())


@pytest.mark.parametrize("key", ["lpips", "squeezenet", "fid", "lite0", "arcface"])
def test_weights_are_never_unpickled(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(GCFSRError, match=r"bad\.pth"):
        catalogue.entry_of(key).make(tmp_path / "bad.pth", "cpu")
    assert not (tmp_path / "harm_was_done").exists()
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(GCFSRError, match=r"bad\.pth"):
        catalogue.entry_of(key).make(tmp_path / "bad.pth", "cpu")
