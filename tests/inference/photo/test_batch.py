"""`RestoreBatch` alone, and under real Ray: two actors, one of which dies; the results are those of the command."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import gcfsr
from gcfsr_inference.photo.photograph import PhotoOptions, restore_photo
from gcfsr_inference.restore.restorer import Restorer


def faces(count: int) -> list[np.ndarray]:
    """(20, 20, 3) RGB uint8 of smooth noise."""
    rng = np.random.default_rng(0)
    return [cv2.GaussianBlur(rng.integers(0, 256, (20, 20, 3), np.uint8), (5, 5), 0) for _ in range(count)]


def test_aligned_faces_come_out_as_restored_alone(tiny: Path) -> None:
    images, restorer = faces(3), Restorer.load(tiny)
    done = gcfsr.RestoreBatch(tiny, aligned=True)({"image": np.stack(images), "path": np.array(["a", "b", "c"])})
    assert done["image"].shape == (3, 32, 32, 3)
    for image, result in zip(images, done["image"], strict=True):
        np.testing.assert_array_equal(result[..., ::-1], restorer.restore(np.ascontiguousarray(image[..., ::-1])))
    assert [*done["path"], *done["faces"], *done["error"]] == ["a", "b", "c", 1, 1, 1, "", "", ""]


def test_a_face_that_cannot_be_restored_is_kept_and_named(tiny: Path, astronaut: np.ndarray) -> None:
    flat, oblong = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 90, 3), np.uint8)
    images = np.empty(2, object)
    images[:] = [flat, oblong]
    done = gcfsr.RestoreBatch(tiny, aligned=True)({"image": images})
    assert done["image"][0].shape == (32, 32, 3)
    assert done["image"][1] is not None
    np.testing.assert_array_equal(done["image"][1], oblong)
    assert [bool(error) for error in done["error"]] == [False, True]
    gray = gcfsr.RestoreBatch(tiny)({"image": astronaut[None, ..., 0]})
    assert "photographs are (H, W, 3) arrays" in gray["error"][0]


def test_a_wrong_count_of_channels_does_not_end_the_batch(tiny: Path) -> None:
    face = faces(1)[0]
    images = np.empty(4, object)
    images[:] = [face[..., :1], face[..., :2], face[:0], face]
    done = gcfsr.RestoreBatch(tiny, aligned=True)({"image": images})
    assert list(done["faces"]) == [0, 0, 0, 1]
    assert [error.split(";")[0] for error in done["error"]] == [
        "image: 1 channels", "image: 2 channels", "image: 20x0 pixels show no face", "",
    ]  # fmt: skip
    for given, kept in zip(images[:3], done["image"], strict=False):
        np.testing.assert_array_equal(given, kept)


def test_photographs_of_several_sizes(tiny: Path, astronaut: np.ndarray) -> None:
    photos = np.empty(2, object)
    photos[:] = [astronaut[..., ::-1], np.full((40, 60, 3), 90, np.uint8)]
    options = PhotoOptions(only_gains=False)  # a random network improves no face
    done = gcfsr.RestoreBatch(tiny, options=options)({"image": photos})
    assert list(done["faces"]) == [1, 0]
    expected = restore_photo(astronaut, Restorer.load(tiny), options=options).image
    np.testing.assert_array_equal(done["image"][0][..., ::-1], expected)
    np.testing.assert_array_equal(done["image"][1], photos[1])


@pytest.fixture(scope="module")
def ray() -> Iterator:
    ray = pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "600")  # a loaded machine
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_restores_fifty_faces_though_an_actor_dies(ray, restore, tiny: Path, tmp_path: Path) -> None:
    class DiesOnce(gcfsr.RestoreBatch):
        """Its first actor that comes to a marked image is killed, as by a machine that goes down."""

        def __init__(self, marker: str, *args, **kwargs) -> None:
            self.marker = marker
            super().__init__(*args, **kwargs)

        def __call__(self, batch):
            if any(path.endswith("17.png") for path in batch["path"]) and not os.path.exists(self.marker):
                Path(self.marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)

    folder = tmp_path / "faces"
    folder.mkdir()
    for number, image in enumerate(faces(50)):
        cv2.imwrite(str(folder / f"{number:02d}.png"), image[..., ::-1])
    assert restore("-i", folder, "--aligned")[0] == 0
    images = ray.data.read_images(str(folder), mode="RGB", include_paths=True, override_num_blocks=10)
    marker = tmp_path / "died"
    done = images.map_batches(
        DiesOnce, fn_constructor_args=(str(marker), tiny), fn_constructor_kwargs={"aligned": True}, concurrency=2,
        num_cpus=0.5, batch_size=3,
    ).take_all()  # fmt: skip
    assert marker.exists()
    assert sorted(Path(row["path"]).name for row in done) == [f"{number:02d}.png" for number in range(50)]
    for row in done:
        alone = cv2.imread(str(tmp_path / "out" / "restored_faces" / f"{Path(row['path']).stem}_00.png"))
        np.testing.assert_array_equal(row["image"][..., ::-1], alone)


@pytest.mark.slow
def test_the_example_of_the_docs_runs(ray, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces").mkdir()
    for number, image in enumerate(faces(4)):
        cv2.imwrite(f"faces/{number}.png", image)
    (code,) = re.findall(r"^```python\n(.*?)^```", (root / "docs" / "bulk.md").read_text(encoding="utf-8"), re.M | re.S)
    code = code.replace('"faces"', repr(str(tmp_path / "faces"))).replace(
        '"restored"', repr(str(tmp_path / "restored"))
    )
    exec(compile(code, "docs/bulk.md", "exec"), {})
    assert [cv2.imread(str(path)).shape for path in Path("restored").iterdir()] == [(256, 256, 3)] * 4
