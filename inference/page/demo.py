"""The page of `gcfsr demo`: drop a photograph, choose faces, turn the dial, compare, download. Needs no network."""

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
from gradio.themes import Soft

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import say
from gcfsr_inference.page.session import DemoSession, Turn
from gcfsr_inference.photo.detection import Detector
from gcfsr_inference.restore.restorer import Restorer

WHOLE = "whole photograph"
INTRO = """# GCFSR: restore a face, and choose how much is invented
Drop a photograph. The **factor** says how many times fewer pixels than the result the face really has: low keeps what
the picture shows, high generates more detail. Nothing leaves this computer."""


class Page:
    """The page's events over sessions; one restorer and one detector serve all visitors.

    Args:
        restorer: restores faces.
        detector: finds them; None takes roughly square pictures as aligned faces.
    """

    def __init__(self, restorer: Restorer, detector: Detector | None) -> None:
        self.restorer, self.detector = restorer, detector

    def build(self) -> gr.Blocks:
        """Lays the page out and wires its events."""
        low, high = self.restorer.min_factor, self.restorer.max_factor
        with gr.Blocks(title="GCFSR", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
            session = gr.State(None)
            gr.Markdown(INTRO)
            with gr.Row():
                with gr.Column(scale=2, min_width=280):
                    # Not gr.Image, which decodes by itself, to 8 bits, and hides what is wrong with a broken file.
                    photo = gr.File(label="photograph", file_types=["image"], height=130, elem_id="photo")
                    faces = gr.CheckboxGroup([], type="index", label="faces to restore", elem_id="faces")
                    auto = gr.Checkbox(True, label="auto: each face at its own estimate", elem_id="auto")
                    dial = gr.Slider(
                        low, high, value=low, step=0.5, label="factor", elem_id="dial", visible=not self.restorer.blind
                    )
                    view = gr.Radio([WHOLE], value=WHOLE, type="index", label="show", elem_id="view")
                    download = gr.DownloadButton("download the result (PNG)", interactive=False, elem_id="download")
                with gr.Column(scale=3, min_width=380):
                    compare = gr.ImageSlider(label="before | after", height=620, elem_id="compare", format="png")
                    report = gr.Markdown(elem_id="report")
            shown = [compare, report]
            photo.change(
                self.open, photo, [session, faces, auto, dial, view, *shown, download], show_progress="minimal"
            )
            turning = {"inputs": [session, faces, auto, dial, view], "show_progress": "hidden"}
            for event in (faces.input, auto.input):
                event(self.turn, outputs=shown, **turning).then(self.write, session, download, show_progress="hidden")
            dial.input(lambda: False, None, auto, show_progress="hidden")
            # While the dial moves only the newest position counts; the file is written when it is let go.
            dial.input(self.turn_to, outputs=shown, trigger_mode="always_last", **turning)
            dial.release(self.turn_to, outputs=shown, **turning).then(self.write, session, download)
            view.input(self.show, [session, view], compare, show_progress="hidden")
        return blocks

    def open(self, path: str | None) -> tuple[Any, ...]:
        """A photograph was dropped or removed: finds its faces and restores them all at their estimates."""
        empty = gr.update(choices=[], value=[]), True, gr.update(), gr.update(choices=[WHOLE], value=WHOLE)
        nothing = None, *empty, None, "", gr.update(value=None, interactive=False)
        if path is None:
            return nothing
        try:
            session = DemoSession(self.restorer, self.detector, path)
            turns = session.turn(list(range(len(session.subjects))), None)
            file = session.write()
        except GCFSRError as error:
            gr.Warning(str(error).replace(str(Path(path).parent) + os.sep, ""), title="This cannot be restored")
            return nothing
        labels = session.labels()
        return (
            session,
            gr.update(choices=labels, value=labels),
            True,
            gr.update(value=round(session.subjects[0].factor * 2) / 2),
            gr.update(choices=[WHOLE, *(f"face {face.number}" for face in session.subjects)], value=WHOLE),
            session.views(None),
            describe(turns),
            gr.update(value=str(file), interactive=True),
        )

    def turn(self, session: DemoSession | None, chosen: list[int], auto: bool, factor: float, view: int) -> tuple:
        """Restores the chosen faces at the dial, or at their own estimates, and shows them."""
        if session is None:
            return None, ""
        turns = session.turn(chosen, None if auto else factor)
        return self.show(session, view), describe(turns)

    def turn_to(self, session: DemoSession | None, chosen: list[int], auto: bool, factor: float, view: int) -> tuple:
        """The dial was moved, so `auto` is off whatever its box still says."""
        return self.turn(session, chosen, False, factor, view)

    def show(self, session: DemoSession | None, view: int) -> tuple | None:
        """Before and after: the whole photograph, or one face."""
        return None if session is None else session.views(view - 1 if view else None)

    def write(self, session: DemoSession | None) -> Any:
        """Writes the result for the download button."""
        if session is None:
            return gr.update(interactive=False)
        return gr.update(value=str(session.write()), interactive=True)


def describe(turns: list[Turn]) -> str:
    """A table of what was done to each face."""
    if not turns:
        return "No face chosen: the photograph is as it was."
    head = "| face | factor | agrees with the input | largest difference |\n|---|---|---|---|\n"
    rows = (
        f"| {turn.number} | {'-' if turn.factor is None else f'{turn.factor:.1f}'} "
        f"| {turn.consistency.psnr:.1f} dB at {turn.consistency.size}x{turn.consistency.size} "
        f"| {turn.consistency.largest:.0f} of 255 |"
        for turn in turns
    )
    return head + "\n".join(rows)


def serve(restorer: Restorer, detector: Detector | None, host: str = "127.0.0.1", port: int = 0) -> gr.Blocks:
    """Starts the page's server and prints its address; `block_thread()` of what it returns waits for an interrupt.

    Args:
        restorer, detector: as for `Page`.
        host: address to listen on.
        port: port; 0 takes the first free one from 7860.

    Raises:
        GCFSRError: the port is taken or the host is not this computer's.
    """
    blocks = Page(restorer, detector).build()
    theme = Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # none is fetched
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port or None, share=False, quiet=True, prevent_thread_lock=True,
            ssr_mode=False, footer_links=[], theme=theme, max_file_size="200mb",
        )  # fmt: skip
    except OSError as error:
        raise GCFSRError(f"--host {host} --port {port}: taken or not allowed; choose others, or port 0") from error
    say(f"gcfsr demo: {url}")
    return blocks
