"""The page of `gcfsr demo`: drop a photograph, choose faces, turn the dial, compare, download. Needs no network."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
from gradio.themes import Soft
from starlette.middleware import Middleware

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import MAX_PIXELS
from gcfsr_inference.console import say, unexpected_error
from gcfsr_inference.page import compare
from gcfsr_inference.page.hosts import LOOPBACK, OwnHostOnly
from gcfsr_inference.page.private import private_folder
from gcfsr_inference.page.session import DemoSession, Result
from gcfsr_inference.photo.detect import Detector
from gcfsr_inference.restore.dial import DIALS
from gcfsr_inference.restore.restorer import Restorer

WHOLE = "whole photograph"
FAR = 4.0  # a dial this many times above the estimate is warned about
INTRO = """# GCFSR: restore a face, and choose how much is invented
Drop a photograph. The **factor** is how many times fewer pixels the face really has than the result: low keeps what
the image shows, high generates more detail. Restored faces contain **invented detail: never use them to identify
anybody.** Nothing leaves this computer."""
STYLE = """
@media (max-width: 640px) {
  #layout { flex-direction: column-reverse; }
  #dial { order: -1; }
  #report { max-height: 14vh; overflow: auto; }
}
"""
# A number that was typed is brought into the dial's range; Gradio would show its own error.
CLAMP = """(session, faces, auto, view, factor, ...dials) => {
  const range = document.querySelector('#dial input[type=range]');
  return [session, faces, auto, view, range ? Math.min(Math.max(factor, +range.min), +range.max) : factor, ...dials];
}"""
SAVE = """(file) => {
  if (!file) return;
  const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name || 'restored.png';
  document.body.append(link); link.click(); link.remove();
}"""


class _Blocks(gr.Blocks):
    """Gradio's page, whose errors are one line in the browser, for `gradio_client`, and on standard error.

    Gradio itself tells a visitor nothing of an error, and prints its traceback.
    """

    debug = False

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super().process_api(*args, **kwargs)
        except Exception as error:
            known = isinstance(error, GCFSRError | gr.Error)
            line = str(getattr(error, "message", error)) if known else unexpected_error(error, self.debug)
            say(f"gcfsr demo: {line}", error=True)
            raise gr.Error(line, print_exception=False) from error


class Page:
    """The page's events over sessions; restorers and one detector serve all visitors.

    Args:
        load: gives the restorer of a checkpoint's name.
        names: the names to choose from, the first one is the default.
        detector: finds faces.
        folder: where results are written for download.
        max_pixels: of a photograph, by its header.
        debug: print the tracebacks of unexpected errors.
    """

    def __init__(
        self,
        load: Callable[[str], Restorer],
        names: list[str],
        detector: Detector,
        folder: Path,
        max_pixels: int = MAX_PIXELS,
        debug: bool = False,
    ) -> None:
        self.load, self.names, self.detector, self.folder, self.max_pixels = load, names, detector, folder, max_pixels
        self.debug = debug

    def build(self) -> gr.Blocks:
        """Lays the page out and connects its events."""
        restorer = self.load(self.names[0])
        with _Blocks(title="GCFSR", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
            blocks.debug = self.debug
            session = gr.State(None)
            gr.Markdown(INTRO)
            with gr.Row(elem_id="layout"):
                with gr.Column(scale=2, min_width=280):
                    # Not gr.Image, which decodes to 8 bits and hides the faults of a broken file.
                    photo = gr.File(label="photograph", file_types=["image"], height=130, elem_id="photo")
                    dial = gr.Slider(
                        restorer.min_factor, restorer.max_factor, value=restorer.min_factor, step=0.25, label="factor",
                        elem_id="dial", visible=not restorer.blind,
                    )  # fmt: skip
                    dials = [
                        gr.Slider(0, 1, value=0, step=0.05, label=option, elem_id=option,
                                  visible=name in restorer.conditions)
                        for option, name in DIALS.items()
                    ]  # fmt: skip
                    auto = gr.Checkbox(True, label="auto: each face at its own estimate", elem_id="auto")
                    faces = gr.CheckboxGroup([], type="index", label="faces to restore", elem_id="faces")
                    view = gr.Radio([WHOLE], value=WHOLE, type="index", label="show", elem_id="view")
                    gallery = gr.Gallery(
                        label="faces: select one to zoom", columns=6, height=130, object_fit="contain",
                        elem_id="gallery", interactive=False, allow_preview=False, buttons=[],
                    )  # fmt: skip
                    network = gr.Dropdown(
                        self.names, value=self.names[0], label="network", elem_id="network",
                        visible=len(self.names) > 1,
                    )  # fmt: skip
                    download = gr.Button("download the result (PNG)", interactive=False, elem_id="download")
                    file = gr.DownloadButton(visible="hidden", elem_id="file")
                with gr.Column(scale=3, min_width=340, elem_id="output"):
                    shown = compare.build()
                    report = gr.Markdown(elem_id="report")
            opening = [session, faces, auto, dial, view, gallery, shown, report, download, *dials]
            gr.on(
                [photo.change, network.input], self.open, [photo, network], opening, show_progress="minimal",
                api_visibility="private",
            )  # fmt: skip
            setting = [session, faces, auto, view, dial, *dials]
            turned = [slider.input for slider in (dial, *dials)]
            gr.on(turned, None, None, auto, js="() => false", api_visibility="private")  # at once, in the browser
            # One event for every control, one at a time, of which the newest state always runs last.
            gr.on(
                [faces.input, auto.input, view.input, *turned], self.turn, setting, [auto, shown, report],
                js=CLAMP, trigger_mode="always_last", concurrency_limit=1, show_progress="hidden",
                api_visibility="private",
            )  # fmt: skip
            gallery.select(
                self.zoom, setting, [view, shown, report], js=CLAMP, show_progress="hidden", api_visibility="private"
            )
            # The file is made when it is asked for, from the state of the controls at that moment.
            download.click(self.write, setting, file, js=CLAMP, api_visibility="private").then(
                None, file, None, js=SAVE, api_visibility="private"
            )
            gr.api(self.restore_file, api_name="restore")  # pyright: ignore[reportPrivateImportUsage]
        return blocks

    def open(self, path: str | None, network: str) -> tuple[Any, ...]:
        """Another photograph or network: finds the faces and restores all of them at their estimates."""
        restorer = self.load(network)
        limits = {"minimum": restorer.min_factor, "maximum": restorer.max_factor, "visible": not restorer.blind}
        views = gr.update(choices=[WHOLE], value=WHOLE)
        off = gr.update(interactive=False)
        nothing = (
            None,
            gr.update(choices=[], value=[]),
            True,
            gr.update(**limits),
            views,
            [],
            gr.update(value="", before=""),
        )
        shown = [name in restorer.conditions for name in DIALS.values()]
        hidden = [gr.update(value=0, label=option, visible=one) for option, one in zip(DIALS, shown, strict=True)]
        if path is None:
            return *nothing, "", off, *hidden
        try:
            session = self._session(restorer, path)
            result = session.restore(range(len(session.subjects)), None)
        except GCFSRError as error:
            return *nothing, f"**This cannot be restored.** {error}", off, *hidden
        labels, first = session.labels(), session.first_view()
        choices = [WHOLE, *(f"face {face.number}" for face in session.subjects)]
        before, after = (compare.encode(image) for image in session.views(result, first))
        return (
            session,
            gr.update(choices=labels, value=labels),
            True,
            gr.update(value=round(session.subjects[first or 0].factor, 2), **limits),
            gr.update(choices=choices, value=choices[0 if first is None else first + 1]),
            [(image, f"face {one.number}") for image, one in zip(session.thumbnails(), session.subjects, strict=True)],
            gr.update(value=after, before=before),
            describe(result),
            gr.update(interactive=True),
            *self._estimates(session, first or 0),
        )

    def _session(self, restorer: Restorer, path: str) -> DemoSession:
        """A photograph that was uploaded. Raises GCFSRError, which names the file without the server's folder."""
        try:
            return DemoSession(restorer, self.detector, path, self.max_pixels)
        except GCFSRError as error:
            raise GCFSRError(str(error).replace(str(Path(path).parent) + os.sep, "")) from error

    def _estimates(self, session: DemoSession, face: int) -> list[Any]:
        """The other dials at what the network reads of a face, and what that is."""
        one, updates = session.subjects[face], []
        for option, name in DIALS.items():
            value = one.dials.get(name, 0.0)
            label = f"{option}: auto is {value:.2f} for face {one.number}" if name in one.dials else option
            updates.append(gr.update(value=round(value, 2), label=label, visible=name in one.dials))
        return updates

    def turn(
        self, event: gr.EventData, session: DemoSession | None, chosen: list[int], auto: bool, view: int, *dials: float
    ) -> tuple[Any, ...]:
        """A control was moved: restores the chosen faces at the dial, or at their own estimates, and shows them."""
        auto = auto and not isinstance(event.target, gr.Slider)  # who turns a dial wants it there
        if session is None:
            return auto, gr.update(), ""
        result = session.set_to(chosen, None if auto else dials)
        return auto, self.show(session, result, view, isinstance(event.target, gr.Radio)), describe(result)

    def zoom(
        self, event: gr.SelectData, session: DemoSession | None, chosen: list[int], auto: bool, view: int, *dials: float
    ) -> tuple[Any, ...]:
        """A thumbnail was selected: shows that face."""
        if session is None:
            return gr.update(), gr.update(), ""
        result = session.set_to(chosen, None if auto else dials)
        name = f"face {session.subjects[event.index].number}"
        return name, self.show(session, result, event.index + 1, True), describe(result)

    def show(self, session: DemoSession, result: Result, view: int, moved: bool) -> Any:
        """The images of a view; the one before is sent only where the view has changed."""
        before, after = session.views(result, view - 1 if view else None)
        changes: dict[str, Any] = {"before": compare.encode(before)} if moved else {}
        return gr.update(value=compare.encode(after), **changes)

    def write(self, session: DemoSession | None, chosen: list[int], auto: bool, view: int, *dials: float) -> str | None:
        """Writes the result of the controls' present state; returns the file."""
        if session is None:
            return None
        result = session.set_to(chosen, None if auto else dials)
        return str(session.write(result, Path(mkdtemp(dir=self.folder))))

    def restore_file(self, image: gr.FileData, factor: float = 0.0) -> gr.FileData:
        """The endpoint /restore of `gradio_client`: a photograph -> its restored PNG.

        Args:
            image: the photograph, as `gradio_client.handle_file` gives it.
            factor: for all faces; 0 estimates each face's own.
        """
        if not isinstance(factor, int | float | None):
            raise GCFSRError(f"factor: a {type(factor).__name__}, not a number; 0 estimates each face's own")
        session = self._session(self.load(self.names[0]), self._uploaded(image))
        result = session.restore(range(len(session.subjects)), factor or None)
        return gr.FileData(path=str(session.write(result, Path(mkdtemp(dir=self.folder)))))

    def _uploaded(self, file: Any) -> str:
        """The path of a file in the page's folder: Gradio does not check one that a program names by itself."""
        path = file.get("path") if isinstance(file, dict) else getattr(file, "path", None)
        if not isinstance(path, str) or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.folder)):
            raise GCFSRError("image: not an uploaded file; send it with gradio_client.handle_file")
        return path


def describe(result: Result) -> str:
    """A table of what was done to each face, and warnings."""
    kept = [f"\n\nFace {number} was left unchanged: {reason}." for number, reason in result.left.items()]
    if not result.faces:
        return "".join(kept).strip() or "No face chosen: the photograph is unchanged."
    head = "| face | factor | agrees with the input | largest difference |\n|---|---|---|---|\n"
    rows = (
        f"| {face.subject.number} | {'-' if face.factor is None else f'{face.factor:.1f}'} "
        f"| {face.consistency.psnr:.1f} dB at {face.consistency.size}x{face.consistency.size} "
        f"| {face.consistency.largest:.0f} of 255 |"
        for face in result.faces
    )
    far = [face for face in result.faces if face.factor is not None and face.factor > FAR * face.subject.factor]
    notes = [
        f"\n\n**Face {face.subject.number}: the dial is far above the estimate of {face.subject.factor:.1f}.** "
        "Much of what you see is invented."
        for face in far
    ]
    return head + "\n".join(rows) + "".join(notes + kept)


@contextmanager
def serving(
    load: Callable[[str], Restorer],
    names: list[str],
    detector: Detector,
    host: str = "127.0.0.1",
    port: int = 0,
    max_pixels: int = MAX_PIXELS,
    debug: bool = False,
) -> Iterator[gr.Blocks]:
    """Serves the page and prints its address while the block runs; what visitors uploaded is removed at its end.

    Args:
        load, names, detector, max_pixels, debug: as for `Page`; each network is loaded once.
        host: address to listen on.
        port: port; 0 takes the first free one from 7860.

    Raises:
        GCFSRError: the port is taken or the host is not this computer's.
    """
    if host not in LOOPBACK:
        say(f"gcfsr demo: --host {host}: everyone who reaches this address can use the page")
    with private_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # Gradio's copies of the photographs
        blocks = Page(lru_cache(load), names, detector, folder, max_pixels, debug).build()
        theme = Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # none is fetched
        try:
            _, url, _ = blocks.launch(
                server_name=host, server_port=port or None, share=False, quiet=True, prevent_thread_lock=True,
                ssr_mode=False, footer_links=[], theme=theme, css=STYLE, max_file_size="200mb",
                allowed_paths=[str(folder)],
                app_kwargs={"middleware": [Middleware(OwnHostOnly, host=host)]},
            )  # fmt: skip
        except OSError as error:
            raise GCFSRError(f"--host {host} --port {port}: taken or not allowed; choose others, or port 0") from error
        say(f"gcfsr demo: {url}")
        try:
            yield blocks
        finally:
            blocks.close(verbose=False)
