"""Serves the page of `gcfsr demo` to the visitors of a Space, on the port that the Space expects."""

import os
from functools import partial

from gcfsr_inference.commands.demo import KEPT
from gcfsr_inference.page.demo import serving
from gcfsr_inference.photo.detect import build_detector, find_detector
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.weights import DEFAULT_NAME, bundled


def main() -> None:
    """Serves until the Space is stopped."""
    names = list(dict.fromkeys([DEFAULT_NAME, *bundled()]))
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    load = partial(Restorer.load, kept=KEPT)
    with serving(load, names, build_detector(find_detector()), "0.0.0.0", port) as page:
        page.block_thread()


if __name__ == "__main__":
    main()
