"""Selects faces of an image: `all`, `largest`, `center`, or numbers."""

from collections.abc import Sequence

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect.detection import Detection


def choose(found: Sequence[Detection], faces: str, shape: tuple[int, int]) -> list[int]:
    """The numbers of the faces that `faces` names (`all`, `largest`, `center` or `0,2`), for an image of `shape`."""
    numbers = list(range(len(found)))
    if faces == "all" or not found:
        return numbers
    if faces == "largest":
        return [max(numbers, key=lambda number: found[number].size)]
    if faces == "center":
        middle = np.array([shape[1], shape[0]]) / 2
        return [min(numbers, key=lambda n: np.linalg.norm(found[n].box.reshape(2, 2).mean(axis=0) - middle))]
    wanted = parse_numbers(faces)
    missing = [number for number in wanted if number not in numbers]
    if missing:
        raise GCFSRError(
            f"faces {faces}: there is no face {missing[0]}; {len(found)} found, numbered from 0, left to right"
        )
    return wanted


def parse_numbers(faces: str) -> list[int]:
    """`0,2` as numbers, each once, in order."""
    try:
        return sorted({int(number) for number in str(faces).split(",")})
    except ValueError as error:
        raise GCFSRError(f"faces {faces!s:.60}: give all, largest, center or numbers such as 0,2") from error
