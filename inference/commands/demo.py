"""`gcfsr demo`: a page with a slider, served on this computer."""

import argparse

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.common import add_device, at_least

KEPT = 4  # faces whose features are kept in memory, so that turning the dial only decodes
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25", "yunet")
EXAMPLES = """
gcfsr demo --open
gcfsr demo --checkpoint gcfsr-1024.pth --device cuda --port 7861
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-v", "--checkpoint", metavar="CHECKPOINT", help="file, bundled name, or name in the weights folder [gcfsr-256]"
    )
    add("--detector", choices=DETECTORS, help="[the first whose weights are available]")
    add("--weights-dir", metavar="FOLDER", help="where detectors' weights lie; also $GCFSR_WEIGHTS")
    add("--confidence", type=float, help="least score of a face in [0.05, 1]")
    add("--host", default="127.0.0.1", help="address to listen on [127.0.0.1: this computer only]")
    add("--port", type=int, default=0, help="[0: the first free one from 7860]")
    add("--open", action="store_true", help="open the page in the browser")
    add("--max-pixels", type=int, metavar="N", help="largest photograph [100 million]")
    add_device(parser)
    add("--dtype", choices=["fp32", "bf16"], default="fp32", help="[fp32]")
    add("--backend", default="torch", help="torch, onnx, openvino [torch]")


def run(args: argparse.Namespace) -> None:
    import gc
    import time
    import webbrowser
    from contextlib import suppress
    from importlib.util import find_spec

    from gcfsr_datasets.image_io import MAX_PIXELS

    at_least("--port", args.port, 0, 65535)
    max_pixels = at_least("--max-pixels", args.max_pixels, 1) or MAX_PIXELS
    if find_spec("gradio") is None:
        raise GCFSRError("demo: gradio is not installed; pip install 'gcfsr[demo]'")
    from gcfsr_inference.restore.weights import resolve_checkpoint

    resolve_checkpoint(args.checkpoint, args.weights_dir)  # raises at once where there is none

    from gcfsr_arch.devices import choose_device
    from gcfsr_inference.commands.network import open_restorer
    from gcfsr_inference.page.demo import serving
    from gcfsr_inference.photo.detect import build_detector, find_detector
    from gcfsr_inference.restore.restorer import Restorer
    from gcfsr_inference.restore.weights import DEFAULT_NAME, bundled

    def load(name: str) -> Restorer:
        path = resolve_checkpoint(name, args.weights_dir)
        return open_restorer(path, args.device, args.dtype, args.backend, kept=KEPT)

    name = args.detector or find_detector(args.weights_dir)
    detector = build_detector(name, args.weights_dir, args.confidence, choose_device(args.device))
    networks = list(dict.fromkeys([args.checkpoint or DEFAULT_NAME, *bundled()]))
    with serving(load, networks, detector, args.host, args.port, max_pixels, args.debug) as page:
        if args.open:
            webbrowser.open(str(page.local_url))
        with suppress(KeyboardInterrupt):  # Ctrl-C or SIGTERM, by which the page ends
            while page.is_running:  # Gradio's own loop waits for open connections
                time.sleep(0.1)
    gc.freeze()  # the process ends: nothing is gained by searching all that torch and Gradio have made for cycles
