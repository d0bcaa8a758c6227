"""Groups of images that are reported separately: by file-name prefix, or by the face's luminance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.balance import face_luminance
from gcfsr_datasets.image_io import MAX_PIXELS
from gcfsr_inference.evaluation.workspace import read_bgr

TERCILES = ("dark third", "middle third", "light third")
# the development faces by where they come from: one studio, photographs, face generators
ORIGIN = "lon_=studio,wld_=wild," + ",".join(f"{prefix}_=generated" for prefix in ("gen", "bsm", "tpd", "sgf", "gec"))
HELP = (
    "prefix (text before the first _), prefix:lon_=real,gen_=generated (the rest is 'other'), "
    "origin (studio, wild and generated faces of the development data), or luminance"
)


def by_prefix(names: Sequence[str], spec: str) -> dict[str, list[str]]:
    """Groups by the text before "_", or by given prefixes: "lon_=real,gen_=generated"; the rest is "other"."""
    pairs = [part.partition("=") for part in spec.split(",") if part]
    groups: dict[str, list[str]] = {title or prefix: [] for prefix, _, title in pairs}  # in the order given
    for name in names:
        titles = [title or prefix for prefix, _, title in pairs if name.startswith(prefix)]
        title = (titles or ["other"])[0] if pairs else name.partition("_")[0]
        groups.setdefault(title, []).append(name)
    return {title: members for title, members in groups.items() if members}


def by_luminance(gt: dict[str, Path], names: Sequence[str], max_pixels: int = MAX_PIXELS) -> dict[str, list[str]]:
    """Terciles of the luminance of the face's middle, as training balances it, darkest first; ties go by name."""
    ranked = sorted(names, key=lambda name: (face_luminance(read_bgr(gt[name], max_pixels)), name))
    return {title: sorted(part) for title, part in zip(TERCILES, np.array_split(ranked, 3), strict=True) if len(part)}


def make_groups(
    specs: Sequence[str], gt: dict[str, Path], names: Sequence[str], max_pixels: int = MAX_PIXELS
) -> dict[str, list[str]]:
    """The requested groups; "all" is always first. "prefix:lon_=real+luminance" takes terciles inside each part.

    Raises:
        GCFSRError: a specification is invalid.
    """
    groups = {"all": list(names)}
    for spec in specs:
        base, plus, inner = spec.partition("+")
        if base == "luminance" and not plus:
            groups.update(by_luminance(gt, names, max_pixels))
            continue
        kind, _, rest = f"prefix:{ORIGIN}".partition(":") if base == "origin" else base.partition(":")
        if kind != "prefix" or (plus and inner != "luminance"):
            raise GCFSRError(f"--groups {spec}: invalid; use {HELP}, or prefix...+luminance")
        for title, members in by_prefix(names, rest).items():
            groups[title] = members
            if plus:
                thirds = by_luminance(gt, members, max_pixels)
                groups.update({f"{title}, {third}": part for third, part in thirds.items()})
    return groups
