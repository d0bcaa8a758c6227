"""Alignment and pasting, against scikit-image and OpenCV, and what must not change."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo import paste
from gcfsr_inference.photo.paste import (
    TEMPLATE,
    align,
    crop_face,
    invert,
    neighbours,
    paste_face,
    scale_matrix,
    scale_of,
    share_of,
    soft_mask,
)


def placed(side: float, angle: float, corner: tuple[float, float]) -> np.ndarray:
    """The template's landmarks in an image, a face of `side` pixels turned by `angle` radians about its middle."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - 0.5) @ turn.T * side + side / 2 + np.array(corner)


def smooth_image(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 37) + np.cos(y / 29), np.sin((x + y) / 41), np.cos(x / 31)]
    unit = np.clip(0.5 + 0.2 * np.stack(planes, axis=2), 0, 1)
    return np.rint(unit * np.iinfo(dtype).max).astype(dtype)


@given(st.floats(20, 2000), st.floats(-3.1, 3.1), st.floats(-500, 500), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_alignment_is_scikit_images_least_squares(side: float, angle: float, corner: float, seed: int) -> None:
    transform = pytest.importorskip("skimage.transform")
    points = placed(side, angle, (corner, -corner)) + np.random.default_rng(seed).normal(0, side * 0.01, (5, 2))
    estimated = transform.estimate_transform("similarity", points, TEMPLATE * 256)
    matrix = align(points, 256)
    np.testing.assert_allclose(matrix, estimated.params[:2], atol=1e-6 * max(1, abs(corner)), rtol=1e-6)
    assert scale_of(matrix) == pytest.approx(256 / side, rel=0.15)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((5, 2), 7.0), "coincide"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((3, 2)), "not five"),
        (placed(100, 0, (0, 0)) * [-1, 1], "not those of a face"),
        (placed(100, 0, (0, 0))[[4, 3, 2, 0, 1]], "not those of a face"),
        (np.array([[0, 0], [100, 0], [200, 0], [300, 0], [400, 0.0]]), "not those of a face"),
    ],
)
def test_landmarks_that_cannot_be_aligned_are_an_error(points: np.ndarray, reason: str) -> None:
    with pytest.raises(GCFSRError, match=reason):
        align(points, 128)


def test_a_turned_away_face_is_aligned() -> None:
    """Eyes and mouth foreshortened to a third, the nose beside them: a half profile."""
    points = placed(100, 0.2, (50, 50))
    middle = points.mean(axis=0)
    points[:, 0] = middle[0] + (points[:, 0] - middle[0]) * 0.4
    points[2, 0] += 12
    assert align(points, 128).shape == (2, 3)


@pytest.mark.parametrize("side", [60.0, 128.0, 700.0])
def test_the_crop_puts_landmarks_on_the_template(side: float) -> None:
    points = placed(side, 0.3, (200, 150))
    image = np.zeros((1100, 1100, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(x * 16), round(y * 16)), round(side / 20 * 16), (255, 255, 255), -1, shift=4)
    crop = crop_face(image, align(points, 128), 128)
    _, _, _, centres = cv2.connectedComponentsWithStats((crop[..., 0] > 127).astype(np.uint8))
    distance = np.linalg.norm(centres[1:, None] - TEMPLATE * 128, axis=2)
    assert sorted(distance.argmin(axis=1)) == [0, 1, 2, 3, 4]
    assert distance.min(axis=1).max() < 0.6


def test_a_large_face_is_shrunk_without_aliasing() -> None:
    y, x = np.mgrid[:2000, :2000]
    checker = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    for side in (300, 800, 1700):
        crop = crop_face(checker, align(placed(side, 0.1, (130, 120)), 128), 128)
        assert np.abs(crop.astype(int) - 127.5).max() < 8, side


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("side", "tolerance"), [(50.0, 0.012), (128.0, 0.012), (900.0, 0.0)])
def test_pasting_what_was_cut_changes_almost_nothing(side: float, tolerance: float, dtype: type) -> None:
    image = smooth_image(1200, 1300, dtype)
    points = placed(side, 0.4, (150, 100))
    matrix = align(points, 128)
    crop = crop_face(image, matrix, 128)
    result = image.copy()
    left, top, right, bottom = paste_face(result, crop, crop, matrix)
    assert np.abs(result.astype(float) - image).max() <= tolerance * np.iinfo(dtype).max
    result[top:bottom, left:right] = image[top:bottom, left:right]
    np.testing.assert_array_equal(result, image)


def test_detail_above_the_networks_resolution_stays_or_goes() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (700, 700, 3), np.uint8)
    matrix = align(placed(600, 0, (50, 50)), 64)
    crop = crop_face(image, matrix, 64)
    kept, replaced = image.copy(), image.copy()
    paste_face(kept, crop, crop, matrix)
    paste_face(replaced, crop, crop, matrix, keep_detail=False)
    np.testing.assert_array_equal(kept, image)
    assert replaced[200:500, 200:500].std() < 0.3 * image.std()


@pytest.mark.parametrize("side", [70.0, 400.0])
def test_the_seam_is_soft(side: float) -> None:
    """A face brighter by 100 in a flat image: no step between neighbours beyond the mask's own slope."""
    image = np.full((600, 600, 3), 100, np.uint8)
    matrix = align(placed(side, 0.5, (80, 90)), 128)
    crop = crop_face(image, matrix, 128)
    paste_face(image, crop + 100, crop, matrix)
    assert image.max() == 200
    steps = max(np.abs(np.diff(image.astype(int), axis=axis)).max() for axis in (0, 1))
    assert steps <= 100 * 1.5 / (paste.FEATHER * side) * 1.5 + 1
    mask = soft_mask(128)
    assert mask[0].max() < 0.02
    assert mask[64, 64] == 1


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (500, 500, 3), np.uint8)
    matrix = align(placed(450, 0.2, (20, 10)), 64)
    crop = crop_face(base, matrix, 64)
    results = []
    for band in (7, 10_000):
        monkeypatch.setattr(paste, "BAND", band)
        image = base.copy()
        paste_face(image, 255 - crop, crop, matrix)
        results.append(image.astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_16_bits_are_used() -> None:
    """The same face in 16 bits gives the 8-bit result to within rounding, and values between the 8-bit steps."""
    small, deep = smooth_image(300, 300), smooth_image(300, 300, np.uint16)
    matrix = align(placed(180, 0.1, (60, 50)), 64)
    for image in (small, deep):
        crop = crop_face(image, matrix, 64)
        paste_face(image, (crop * 0.8).astype(image.dtype), crop, matrix)
    assert np.abs(deep / 257 - small).max() < 2.5
    assert (deep % 257 != 0).any()


def test_the_alignment_of_an_enlarged_image() -> None:
    points = placed(100, 0.3, (40, 30))
    enlarged = (points + 0.5) * 2.5 - 0.5
    moved = scale_matrix(align(points, 128), np.array([2.5, 2.5]))
    np.testing.assert_allclose(moved, align(enlarged, 128), atol=1e-9)


def test_a_face_outside_the_image() -> None:
    with pytest.raises(GCFSRError, match="outside the image"):
        crop_face(np.zeros((100, 100, 3), np.uint8), align(placed(50, 0, (400, 400)), 64), 64)


def test_a_face_half_outside_is_pasted_inside() -> None:
    image = smooth_image(200, 200)
    matrix = align(placed(150, 0, (-70, -60)), 64)
    crop = crop_face(image, matrix, 64)
    assert crop.std() > 0
    left, top, right, bottom = paste_face(image, 255 - crop, crop, matrix)
    assert (left, top) == (0, 0)
    assert right <= 85
    assert bottom <= 95


@pytest.mark.parametrize("side", [90.0, 128.0, 300.0])
def test_overlapping_faces_share_their_pixels(side: float) -> None:
    """Three faces that overlap, each brighter by 100: nowhere is more than 100 added, and 100 in each one's middle."""
    image = np.full((700, 700, 3), 80, np.uint8)
    matrices = [
        align(placed(side, angle, (100 + step * side, 120)), 128) for step, angle in ((0, 0), (0.45, 0.3), (0.5, 2))
    ]
    before = image.copy()
    for number, matrix in enumerate(matrices):
        crop = crop_face(before, matrix, 128)
        others = matrices[:number] + matrices[number + 1 :]
        paste_face(image, crop + 100, crop, matrix, others=others, before=before)
    assert image.max() <= 182  # rounding, once a face
    assert image.min() == 80
    for matrix in matrices[:2]:
        x, y = np.rint(invert(matrix) @ [63.5, 63.5, 1]).astype(int)
        assert image[y, x, 0] > 120
    alone = np.full((700, 700, 3), 80, np.uint8)
    paste_face(alone, crop + 100, crop, matrices[0])
    shared = np.full((700, 700, 3), 80, np.uint8)
    far = align(placed(side, 0, (100 + 2.5 * side, 350)), 128)
    paste_face(shared, crop + 100, crop, matrices[0], others=[far])
    np.testing.assert_array_equal(alone, shared)


@given(st.integers(0, 2**31), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_shares_sum_to_at_most_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    matrices = [
        align(placed(rng.uniform(30, 90), rng.uniform(-3, 3), tuple(rng.uniform(0, 60, 2))), 64) for _ in range(count)
    ]
    shares = [
        share_of(matrix, matrices[:k] + matrices[k + 1 :], 64, (-5, 3), (90, 100)) for k, matrix in enumerate(matrices)
    ]
    assert np.sum(shares, axis=0).max() <= 1 + 1e-5
    assert min(share.min() for share in shares) >= 0


def test_which_faces_may_overlap() -> None:
    first, second, far = (align(placed(100, 0.5, corner), 64) for corner in ((0, 0), (80, 0), (400, 300)))
    found = neighbours([first, second, far], 64)
    assert [[id(one) for one in ones] for ones in found] == [[id(second)], [id(first)], []]
    assert neighbours([], 64) == []


@pytest.mark.parametrize("grain", [0.0, 1.0])
def test_a_denoised_face_has_no_halo_in_a_grainy_image(grain: float) -> None:
    """Outside the face the grain is as it was; at the mask's edge little of it is lost; in the middle as asked."""
    noisy = np.clip(120 + np.random.default_rng(0).normal(0, 8, (400, 400, 1)), 0, 255).repeat(3, axis=2)
    image = noisy.round().astype(np.uint8)
    matrix = align(placed(140, 0, (130, 130)), 140)
    crop = crop_face(image, matrix, 140)
    paste_face(image, np.full_like(crop, 120), crop, matrix, grain=grain)

    def level(depth: float) -> float:
        """Standard deviation on the ring of that distance from the face's edge, as a share of the side."""
        at = round(130 + depth * 140)
        return float(image[at : at + 3, 170:230].std())

    assert level(-0.1) == pytest.approx(8, rel=0.15)
    assert level(0.06) > 5  # 5.5 to 7.1 over 20 draws of the grain; the mask alone would leave 4
    assert level(0.1) > 4  # 4.1 to 5.0; the mask alone would leave 1
    assert (level(0.47) > 5.5) if grain else (level(0.47) < 0.5)


def test_no_grain_is_added_where_there_is_none() -> None:
    plain = smooth_image(300, 300)
    matrix = align(placed(100, 0.3, (90, 90)), 128)
    crop = crop_face(plain, matrix, 128)
    results = []
    for grain in (0.0, 1.0):
        image = plain.copy()
        paste_face(image, crop, crop, matrix, grain=grain)
        results.append(image)
    np.testing.assert_array_equal(*results)
