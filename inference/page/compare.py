"""The comparison of two images with a divider that mouse, touch and keyboard move."""

import base64

import cv2
import gradio as gr
import numpy as np

QUALITY = 92  # of WebP
TEMPLATE = """
<figure class="compare" hidden>
  <img class="before" alt="before: the original photograph">
  <img class="after" alt="after: the restored photograph">
  <input type="range" min="0" max="100" value="50" aria-label="divider between before (left) and after (right)">
</figure>
"""
STYLE = """
figure { position: relative; margin: 0; display: grid; justify-items: center; }
figure[hidden] { display: none; }
img { grid-area: 1 / 1; max-width: 100%; max-height: 70vh; object-fit: contain; display: block; }
img.after { clip-path: inset(0 0 0 50%); }
input { grid-area: 2 / 1; width: 100%; margin: 0.5rem 0; }
@media (max-width: 640px) { img { max-height: 42vh; } }
"""
SCRIPT = """
const figure = element.querySelector('figure'), divider = element.querySelector('input');
const before = element.querySelector('.before'), after = element.querySelector('.after');
const cut = () => { after.style.clipPath = `inset(0 0 0 ${divider.value}%)`; };
const show = () => {
  figure.hidden = !props.value;
  if (props.before) before.src = props.before;
  if (props.value) after.src = props.value; else { before.removeAttribute('src'); after.removeAttribute('src'); }
};
divider.addEventListener('input', cut);
const drag = (event) => {
  if (event.buttons !== 1) return;
  const box = after.getBoundingClientRect();
  divider.value = 100 * (event.clientX - box.left) / box.width;
  cut();
};
for (const image of [before, after]) {
  image.draggable = false;
  image.addEventListener('pointerdown', drag);
  image.addEventListener('pointermove', drag);
}
watch(['value', 'before'], show);
show();
"""


def build() -> gr.HTML:
    """The component. Its value is the image after, its property `before` the image before, both as `encode` gives."""
    return gr.HTML(
        value="", before="", html_template=TEMPLATE, css_template=STYLE, js_on_load=SCRIPT, elem_id="compare"
    )


def encode(image: np.ndarray) -> str:
    """(H, W, 3) RGB uint8 as the address of a WebP image that holds its own data."""
    data = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
