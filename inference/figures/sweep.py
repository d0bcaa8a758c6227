"""One face at several strengths (Fig. 5): a labelled sheet, an animation, a page with a slider."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import encode_image
from gcfsr_inference.restore.arrays import network_view, to_depth, unit_bgr
from gcfsr_inference.restore.restorer import Restorer

LABEL = 28  # height of a caption in pixels
WIDEST = 128  # a column is at least this wide, so that captions fit
FRAME_MS, STILL_MS = 120, 900  # duration of an animation's frames, and of the first and last one
LONGEST = {"WEBP": 16383, "GIF": 65535}  # pixels a side of an animation


@dataclass(frozen=True)
class Sweep:
    """One face over the dial.

    Attributes:
        name: shown in the captions.
        view: (S, S, 3) BGR uint8, the input as the network saw it.
        faces: one (S, S, 3) BGR uint8 per factor.
        factors: in the order of `faces`.
        estimate: `Restorer.estimate_factor` of the image.
        dials: where the other conditions of the network were set, by name.
    """

    name: str
    view: np.ndarray
    faces: list[np.ndarray]
    factors: list[float]
    estimate: float
    dials: Mapping[str, float] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """The other dials for a caption: "  noise 0.5", or nothing."""
        return "".join(f"  {name} {value:g}" for name, value in self.dials.items())


def sweep(
    restorer: Restorer,
    image: np.ndarray,
    factors: Sequence[float],
    name: str = "",
    noise: str = "fixed",
    seed: int = 0,
    dials: Mapping[str, float] | None = None,
) -> Sweep:
    """Restores one aligned face at every factor (`Restorer.restore_at`), with its captions.

    Args:
        restorer: a network with a dial.
        image: (H, W, 3) BGR, uint8 or uint16; the results are uint8.
        factors: each in the network's range.
        name: shown in the captions.
        noise: as in `Restorer.restore`.
        seed: as in `Restorer.restore`.
        dials: settings of other conditions by name.

    Raises:
        GCFSRError: a factor out of range, a blind network, or an image that is not an aligned face.
    """
    images = [network_view(image, restorer.out_size), *restorer.restore_at(image, factors, noise, seed, dials)]
    view, *faces = (to_depth(unit_bgr(one), np.uint8) for one in images)
    return Sweep(name, view, faces, list(factors), restorer.estimate_factor(image), dials or {})


def sheet(sweeps: Sequence[Sweep], max_factor: float) -> np.ndarray:
    """All faces as rows: input, then each factor, with captions. (H, W, 3) BGR uint8."""
    rows = []
    for found in sweeps:
        cells = [caption(found.view, f"input (~{found.estimate:.3g}x){found.setting}")]
        pairs = zip(found.faces, found.factors, strict=True)
        cells += [caption(face, f"{factor:g}x  s={factor / max_factor:.3g}") for face, factor in pairs]
        rows.append(np.hstack(cells))
    return np.vstack(rows)


def caption(face: np.ndarray, text: str) -> np.ndarray:
    """A face above its caption, black on white."""
    if len(face) < WIDEST:
        face = cv2.resize(face, (WIDEST, WIDEST), interpolation=cv2.INTER_NEAREST)
    strip = np.full((LABEL, face.shape[1], 3), 255, np.uint8)
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]
    scale = 0.45 * min(1.0, (face.shape[1] - 6) / width)
    cv2.putText(strip, text, (3, 19), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([face, strip])


def animation(sweeps: Sequence[Sweep], max_factor: float, kind: str) -> bytes:
    """All faces beside their inputs, the dial going up and down, as looping "GIF" or "WEBP" bytes.

    Raises:
        GCFSRError: so many faces that the format cannot hold them.
    """
    frames = []
    for k, factor in enumerate(sweeps[0].factors):
        text = f"{factor:g}x  s={factor / max_factor:.3g}"
        rows = [np.hstack([caption(one.view, f"input{one.setting}"), caption(one.faces[k], text)]) for one in sweeps]
        frames.append(Image.fromarray(np.ascontiguousarray(np.vstack(rows)[..., ::-1])))
    width, height = frames[0].size
    if max(width, height) > LONGEST[kind]:
        others = ".gif or .html" if kind == "WEBP" else ".html"
        raise GCFSRError(f"{width}x{height} pixels: {kind} holds at most {LONGEST[kind]} a side; write {others}")
    loop = frames + frames[-2:0:-1]
    durations = [STILL_MS if frame in (frames[0], frames[-1]) else FRAME_MS for frame in loop]
    buffer = BytesIO()
    extra = {"quality": 90} if kind == "WEBP" else {}
    loop[0].save(buffer, kind, save_all=True, append_images=loop[1:], duration=durations, loop=0, **extra)
    return buffer.getvalue()


def page(sweeps: Sequence[Sweep], max_factor: float) -> bytes:
    """A self-contained HTML page: a slider over the factors, input and result side by side."""
    factors = [f"{factor:g}" for factor in sweeps[0].factors]
    strengths = [f"{factor / max_factor:.3g}" for factor in sweeps[0].factors]
    text = PAGE.replace("LAST", str(len(factors) - 1)).replace("%FACTORS%", json.dumps(factors))
    text = text.replace("%STRENGTHS%", json.dumps(strengths))
    text = text.replace("%FIGURES%", "\n".join(_figure(found) for found in sweeps))  # last: names may contain any text
    return text.encode()


def _figure(found: Sweep) -> str:
    faces = "".join(f'<img class="step" src="{_uri(face)}" alt="">' for face in found.faces)
    name = html.escape(found.name)
    return (
        f'<section><figure><img src="{_uri(found.view)}" alt="input"><figcaption>{name} input, estimated '
        f"{found.estimate:.3g}x{found.setting}</figcaption></figure><figure>{faces}"
        "<figcaption class='state'></figcaption></figure></section>"
    )


def _uri(face: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_image(face)).decode()


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>gcfsr sweep</title>
<style>
body { font: 16px system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; }
section { display: flex; gap: 1rem; flex-wrap: wrap; margin-bottom: 1rem; }
figure { margin: 0; flex: 1 1 16rem; } img { width: 100%; display: block; }
.step { display: none; } .step.on { display: block; } figcaption { padding: .3rem 0; }
.dial { position: sticky; top: 0; background: Canvas; padding: .5rem 0; } input { width: 100%; }
</style>
<div class="dial"><label for="dial">Upscaling factor: <output id="value"></output></label>
<input id="dial" type="range" min="0" max="LAST" value="0" step="1"></div>
%FIGURES%
<script>
const factors = %FACTORS%, strengths = %STRENGTHS%, dial = document.getElementById("dial");
function show() {
  const k = Number(dial.value), text = factors[k] + "x (s = " + strengths[k] + ")";
  document.getElementById("value").textContent = text;
  document.querySelectorAll("section").forEach(section => {
    section.querySelectorAll(".step").forEach((image, i) => image.classList.toggle("on", i === k));
    section.querySelector(".state").textContent = text;
  });
}
dial.addEventListener("input", show); show();
</script></html>
"""
