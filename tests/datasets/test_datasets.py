"""Samples depend on seed, epoch and index alone; every source and every fault."""

import logging
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets import balance
from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset
from gcfsr_datasets.face_dataset import FaceDataset
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset

KINDS = {
    "multi": (MultiFactorDegradationDataset, {"factor_range": [2, 16], "max_factor": 16}),
    "blind": (BlindFaceDegradationDataset, {"color_jitter_prob": 0.5, "color_jitter_pt_prob": 0.5}),
}
TONES = {"gamma": [0.7, 1.4], "contrast": [0.8, 1.2], "saturation": [0.5, 1.2], "temperature": [-0.1, 0.1]}
PLACES = {"scale": [0.8, 1.2], "shift": [-0.1, 0.1], "rotate": [-20, 20]}
Tensors = dict[str, torch.Tensor]


def make(root: Path, kind: str = "multi", **more: Any) -> FaceDataset:
    cls, own = KINDS[kind]
    base = {
        "name": "faces",
        "type": cls.__name__,
        "phase": "train",
        "scale": 1,
        "dataroot_gt": str(root),
        "out_size": 32,
    }
    return cls({**base, **own, "use_hflip": True, **more})


def epoch_of(dataset: FaceDataset, epoch: int, loader: DataLoader) -> list[Tensors]:
    dataset.set_epoch(epoch)
    return list(loader)


def equal(first: list[Any], second: list[Any]) -> bool:
    tensors = ("lq", "gt", "s", "factor")
    same_names = all(a["gt_path"] == b["gt_path"] for a, b in zip(first, second, strict=True))
    return same_names and all(
        torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in tensors
    )


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_depend_on_workers(folder: Path, kind: str):
    dataset = make(folder, kind, augment=TONES, misplace=PLACES, balance_luminance=True, repeats=2)
    alone = DataLoader(dataset, 4)
    workers = DataLoader(dataset, 4, num_workers=2)
    lasting = DataLoader(dataset, 4, num_workers=2, persistent_workers=True)
    first, second = epoch_of(dataset, 0, alone), epoch_of(dataset, 1, alone)
    assert not equal(first, second)
    for loader in (workers, lasting):
        assert equal(epoch_of(dataset, 0, loader), first)
        assert equal(epoch_of(dataset, 1, loader), second)  # the epoch reaches workers that are already running
    again = make(folder, kind, augment=TONES, misplace=PLACES, balance_luminance=True, repeats=2)
    assert equal([dataset.at(1, 3)], [again.at(1, 3)])
    assert not equal(first, epoch_of(dataset, 0, DataLoader(make(folder, kind, seed=1, repeats=2), 4)))


def test_spawned_workers_see_the_epoch(folder: Path):
    dataset = make(folder)
    loader = DataLoader(dataset, 4, num_workers=1, multiprocessing_context="spawn", persistent_workers=True)
    for epoch in (0, 3):
        assert equal(epoch_of(dataset, epoch, loader), epoch_of(dataset, epoch, DataLoader(dataset, 4)))


@pytest.mark.parametrize("kind", KINDS)
def test_validation_never_moves(folder: Path, kind: str):
    dataset = make(folder, kind, phase="val", augment=TONES, misplace=PLACES, balance_luminance=True)
    first, later = ([dataset.at(epoch, index) for index in range(8)] for epoch in (0, 5))
    assert equal(first, later)
    for number, sample in enumerate(first):  # neither flipped nor moved nor coloured nor exchanged
        gt = cv2.imread(str(folder / f"{number}.png"))[..., ::-1].transpose(2, 0, 1)
        np.testing.assert_allclose((sample["gt"].numpy() + 1) * 127.5, gt, atol=1e-3)


def test_multi_factor_samples(matlab: ModuleType, folder: Path):
    dataset = make(folder, factor_range=None, factors=[2, 2, 2, 4], max_factor=8, repeats=50)
    samples = [dataset[index] for index in range(len(dataset))]
    factors = np.array([float(sample["factor"]) for sample in samples])
    assert set(factors) == {2, 4}
    assert (factors == 2).mean() == pytest.approx(0.75, abs=0.07)  # drawn as often as it is listed
    gray = {path: cv2.imread(path)[..., ::-1] / np.float32(255) for path in {sample["gt_path"] for sample in samples}}
    flips = 0
    for sample in samples[:80]:
        factor = float(sample["factor"])
        assert float(sample["s"]) == factor / 8
        assert sample["lq_path"] == sample["gt_path"]
        gt = (sample["gt"].numpy().transpose(1, 2, 0) + 1) / 2
        flips += np.abs(gt - gray[sample["gt_path"]]).max() > 1e-4
        expected = matlab.imresize(matlab.imresize(gt, 1 / factor), factor) * 2 - 1
        np.testing.assert_allclose(sample["lq"].numpy().transpose(1, 2, 0), expected, atol=2e-6)
    assert 25 < flips < 55
    assert {tuple(sample["lq"].shape) for sample in samples} == {(3, 32, 32)}
    assert float(make(folder, factor_range=None, factor=4)[0]["factor"]) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_std_are_basicsrs_normalization(folder: Path, kind: str):
    """With stock models: [0, 1], or any other range; both 0.5 is our own range to the bit of rounding."""
    plain, half = make(folder, kind), make(folder, kind, mean=[0.5] * 3, std=[0.5] * 3)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    other = make(folder, kind, mean=mean, std=std)
    for key in ("lq", "gt"):
        torch.testing.assert_close(half[3][key], plain[3][key], atol=1e-6, rtol=0)
        wanted = torch.stack([((x + 1) / 2 - m) / s for x, m, s in zip(plain[3][key], mean, std, strict=True)])
        torch.testing.assert_close(other[3][key], wanted, atol=1e-5, rtol=0)
    assert torch.equal(other[3]["s"], plain[3]["s"])


def test_several_roots_are_drawn_in_their_proportions(folder: Path, tmp_path: Path):
    """A small root with three quarters of the weight; validation and runs without weights see every image once."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(folder / name, other / f"other {name}")
    plain = make(folder, extra_roots=[str(other)], repeats=2)
    names = [plain.at(0, index)["gt_path"] for index in range(len(plain))]
    assert len(plain) == 2 * (8 + 2)
    assert sorted(names) == sorted(2 * [str(path) for path in [*folder.glob("*.png"), *other.glob("*.png")]])
    weighted = make(folder, extra_roots=[str(other)], root_weights=[1, 3], repeats=100)
    share = np.mean(["other" in weighted.at(0, index)["gt_path"] for index in range(len(weighted))])
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / len(weighted)) ** 0.5
    held = make(folder, phase="val", extra_roots=[str(other)], root_weights=[1, 3])
    assert len({held.at(0, index)["gt_path"] for index in range(len(held))}) == 10


def test_blind_samples(folder: Path):
    sample = make(folder, "blind")[0]
    assert float(sample["s"]) == 1
    assert sample["lq"].shape == sample["gt"].shape == (3, 32, 32)
    assert float((sample["lq"] - sample["gt"]).abs().mean()) > 0.02


def test_lmdb_and_lists_equal_the_folder(folder: Path, tmp_path: Path):
    base = tmp_path / "faces.lmdb"
    with lmdb.open(str(base), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for path in folder.iterdir():
            transaction.put(path.stem.encode(), path.read_bytes())
    (base / "meta_info.txt").write_text("".join(f"{number}.png (32,32,3) 1\n" for number in range(8)))
    expected = [make(folder)[index] for index in range(8)]
    dataset = make(base, io_backend={"type": "lmdb"})
    assert dataset[3]["gt_path"] == "3"
    for workers in (0, 2):  # opened before the fork and used after it
        batches = list(DataLoader(dataset, 1, num_workers=workers))
        assert all(torch.equal(batch["lq"][0], sample["lq"]) for batch, sample in zip(batches, expected, strict=True))

    (tmp_path / "list.txt").write_text("5.png (32,32,3)\n2.png\n\n")
    listed = make(folder, meta_info_file=str(tmp_path / "list.txt"))
    assert [Path(name).name for name in listed.source.names] == ["5.png", "2.png"]
    (tmp_path / "out.txt").write_text("0\n7.png\n")
    kept = make(folder, exclude_list=str(tmp_path / "out.txt"))
    assert [Path(name).stem for name in kept.source.names] == ["1", "2", "3", "4", "5", "6"]


def test_larger_ground_truths_are_resized_on_demand(matlab: ModuleType, tmp_path: Path, face: np.ndarray):
    cv2.imwrite(str(tmp_path / "a.png"), face)
    with pytest.raises(GCFSRError, match=r"a\.png: is 128 x 128 pixels, larger than out_size 32; set resize_gt"):
        make(tmp_path)[0]
    sample = make(tmp_path, resize_gt=True, phase="val")[0]
    expected = np.clip(matlab.imresize(face / np.float32(255), 1 / 4), 0, 1)[..., ::-1].transpose(2, 0, 1)
    np.testing.assert_allclose((sample["gt"].numpy() + 1) / 2, expected, atol=0.51 / 255)


@pytest.mark.parametrize(("shape", "words"), [((31, 31), "smaller than out_size"), ((32, 40), "not square")])
def test_wrong_sizes_are_named(tmp_path: Path, shape: tuple[int, int], words: str):
    cv2.imwrite(str(tmp_path / "odd.png"), np.zeros((*shape, 3), np.uint8))
    with pytest.raises(GCFSRError, match=rf"odd\.png: .*{words}"):
        make(tmp_path, resize_gt=True)[0]


def test_failing_images_are_skipped_and_counted(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:200])
    dataset = make(folder, max_bad_share=0.2)
    with caplog.at_level(logging.WARNING):
        samples = [dataset[index] for index in (3, 3, 2)]
    assert samples[0]["gt_path"] == samples[1]["gt_path"] != str(folder / "3.png")
    assert len(caplog.records) == 1  # named once
    assert "3.png" in caplog.text
    assert "1 of 8 images failed" in caplog.text
    batches = list(DataLoader(make(folder, max_bad_share=0.2), 8, num_workers=2))
    assert torch.equal(batches[0]["lq"][3], samples[0]["lq"])

    (folder / "5.png").write_bytes(b"")
    with pytest.raises(
        GCFSRError, match=r"5\.png: the file is empty.*2 of 8 images failed, more than max_bad_share 0.2"
    ):
        dataset[5]
    shared = make(folder, max_bad_share=0.2)
    with pytest.raises(GCFSRError, match="2 of 8 images failed"):  # one by each worker
        list(DataLoader(shared, 4, num_workers=2))
    with pytest.raises(GCFSRError, match=r"5\.png"):
        make(folder, phase="val", max_bad_share=1.0)[5]


def test_one_failing_image_is_enough_for_the_default(folder: Path):
    (folder / "0.png").write_text("no image")
    with pytest.raises(GCFSRError, match=r"0\.png: not an image.*1 of 8"):
        make(folder)[0]


def test_balance_draws_rare_tones_as_often(tmp_path: Path):
    root = tmp_path / "tones"
    root.mkdir()
    for number in range(40):
        tone = 60 if number < 8 else 180
        cv2.imwrite(str(root / f"{number:02d}.png"), np.full((32, 32, 3), tone + number % 8, np.uint8))
    cache = tmp_path / "luminance.json"
    dataset = make(root, balance_luminance=True, luminance_cache=str(cache), repeats=20)
    dark = np.mean([float(dataset[index]["gt"].mean()) < 0 for index in range(len(dataset))])
    assert dark == pytest.approx(0.5, abs=0.06)  # they are a fifth of the images
    written = cache.stat().st_mtime_ns
    again = make(root, balance_luminance=True, luminance_cache=str(cache), repeats=20)
    assert cache.stat().st_mtime_ns == written
    assert equal([dataset[7]], [again[7]])
    for content in ("[", "3", '{"tones/00.png": "0.2"}', '{"tones/00.png": 51}'):
        cache.write_text(content)
        with pytest.raises(GCFSRError, match=r"luminance\.json: not a cache"):
            make(root, balance_luminance=True, luminance_cache=str(cache))


@pytest.mark.parametrize("backend", ["disk", "lmdb"])
def test_images_of_one_name_in_two_roots_have_their_own_luminance(tmp_path: Path, backend: str):
    roots = []
    for tone in (20, 220):
        image = cv2.imencode(".png", np.full((32, 32, 3), tone, np.uint8))[1].tobytes()
        if backend == "disk":
            roots.append(tmp_path / str(tone))
            (roots[-1] / "train").mkdir(parents=True)
            for number in range(2):
                (roots[-1] / "train" / f"{number}.png").write_bytes(image)
        else:
            roots.append(tmp_path / f"{tone}.lmdb")
            with lmdb.open(str(roots[-1]), map_size=2**20) as environment, environment.begin(write=True) as transaction:
                for number in range(2):
                    transaction.put(b"%d" % number, image)
            (roots[-1] / "meta_info.txt").write_text("0.png\n1.png\n")
    cache = tmp_path / "luminance.json"
    cache.write_text('{"train/0.png": 0.5, "0": 0.5}')  # of one of the two, it does not say which
    source = make(roots[0], extra_roots=[str(roots[1])], io_backend={"type": backend}).source
    for path in (None, str(cache), str(cache)):
        assert balance.measure(source, path) == pytest.approx(np.array([20, 20, 220, 220]) / 255)
    alone = make(roots[0], io_backend={"type": backend}).source
    assert balance.measure(alone, str(cache)) == pytest.approx([0.5, 20 / 255])  # the short name is clear here


def test_names_are_excluded_from_all_roots_together(folder: Path, tmp_path: Path):
    shutil.copytree(folder, other := tmp_path / "other")
    for path in folder.glob("[0-3].png"):
        path.unlink()
    listing = tmp_path / "out.txt"
    listing.write_text("1\n2.png\n")

    def kept() -> list[str]:
        dataset = make(folder, extra_roots=[str(other)], root_weights=[1, 1], exclude_list=str(listing))
        return [str(Path(name).relative_to(tmp_path).with_suffix("")) for name in dataset.source.names]

    own = [f"faces/{number}" for number in (4, 5, 6, 7)]
    assert kept() == own + [f"other/{number}" for number in (0, 3, 4, 5, 6, 7)]
    listing.write_text("zzz\n")
    with pytest.raises(GCFSRError, match=r"out\.txt: none of its names is in .*faces, .*other; check both"):
        kept()
    listing.write_text("4\n5\n6\n7\n")
    with pytest.raises(GCFSRError, match=r"out\.txt: excludes every image of .*faces; remove"):
        kept()


def test_even_weights():
    values = np.random.default_rng(0).beta(5, 2, 4000)
    weights = balance.even_weights(values)
    assert weights.sum() == pytest.approx(1)
    assert weights.max() / weights.min() <= 10.01
    drawn = np.random.default_rng(1).choice(values, 20000, p=weights)
    shares = np.histogram(drawn, 5, (0.4, 0.95))[0] / len(drawn)
    assert shares.max() / shares.min() < 1.6
    assert np.histogram(values, 5, (0.4, 0.95))[0].max() > 2 * np.histogram(values, 5, (0.4, 0.95))[0].min()


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        ({"factrs": [4]}, "factrs is not an option, did you mean 'factors'"),
        ({"factors": [4]}, "given exactly once"),
        ({"factor_range": [8, 4]}, "smallest, largest"),
        ({"factor_range": None, "factors": [4, 64]}, "from 1 to max_factor 16"),
        ({"out_size": None}, "out_size"),
        ({"io_backend": {"type": "disc"}}, "disk or lmdb"),
        ({"augment": {"gama": [1, 2]}}, "augment: gama is not an option, did you mean 'gamma'"),
        ({"augment": {"gamma": [2, 1]}}, "augment: gamma"),
        ({"misplace": {"scale": [0, 1]}}, "misplace: scale"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"root_weights": [1]}, "root_weights must be one number above 0"),
        ({"extra_roots": ["x"], "root_weights": [1, 0]}, "root_weights must be one number above 0"),
        ({"extra_roots": ["/none/more"]}, "/none/more: no such folder"),
        ({"mean": [0.5, 0.5, 0.5]}, "mean, std must be given together"),
        ({"mean": [0, 0, 0], "std": [1, 1, 0]}, "mean, std must be three numbers each, std above 0"),
        ({"meta_info_file": "none.txt"}, r"none\.txt: No such file"),
        ({"dataroot_gt": "/none/faces"}, "/none/faces: no such folder"),
        ({"dataroot_gt": "/none/faces.lmdb", "io_backend": {"type": "lmdb"}}, r"meta_info\.txt: No such file"),
    ],
)
def test_bad_options_are_named(folder: Path, opt: dict[str, Any], words: str):
    with pytest.raises(GCFSRError, match=words):
        make(folder, **opt)


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        ({"blur_kernel_size": 40}, "odd"),
        ({"kernel_list": ["plateau"], "kernel_prob": [1]}, "iso or aniso"),
        ({"jpeg_range": [60, 120]}, "at most 100"),
        ({"gray_prob": 2}, "between 0 and 1"),
    ],
)
def test_bad_blind_ranges_are_named(folder: Path, opt: dict[str, Any], words: str):
    with pytest.raises(GCFSRError, match=words):
        make(folder, "blind", **opt)
