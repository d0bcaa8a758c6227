"""How often the steps of the blind degradation are drawn: their probabilities, not twice or half of them."""

import numpy as np
import pytest

from gcfsr_datasets.degradation.blind_parameters import BlindRanges, draw_blind

DRAWS = 6000


@pytest.mark.parametrize("prob", [None, 0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    ("key", "attribute"), [("gray_prob", "gray"), ("color_jitter_prob", "shift"), ("color_jitter_pt_prob", "jitter")]
)
def test_a_step_is_drawn_with_its_probability(key: str, attribute: str, prob: float | None) -> None:
    rng = np.random.default_rng(0)
    ranges = BlindRanges(**{"gray_prob": 0.3, "color_jitter_prob": 0.3, "color_jitter_pt_prob": 0.3, key: prob})
    values = [getattr(draw_blind(rng, ranges), attribute) for _ in range(DRAWS)]
    found = sum(value is not None and value is not False and len(np.atleast_1d(value)) > 0 for value in values)
    chance = prob or 0
    assert abs(found - DRAWS * chance) <= 4 * np.sqrt(DRAWS * chance * (1 - chance)) + 1e-9


@pytest.mark.parametrize("prob", [(1, 0), (0.25, 0.75), (3, 1)])
def test_kinds_of_blur_are_drawn_in_proportion(prob: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_blind(rng, BlindRanges(kernel_prob=prob)) for _ in range(DRAWS)]
    isotropic = sum(draw.sigma[0] == draw.sigma[1] for draw in drawn)
    chance = prob[0] / sum(prob)
    assert abs(isotropic - DRAWS * chance) <= 4 * np.sqrt(DRAWS * chance * (1 - chance)) + 1e-9
