"""`gcfsr weights`: the weights that are available, their licences, and where others' files belong."""

import argparse
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import say, say_text

EXAMPLES = """
gcfsr weights
gcfsr weights --weights-dir models/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option: a further folder of the user's own."""
    parser.add_argument("--weights-dir", metavar="FOLDER", help="a folder of your own weights; also $GCFSR_WEIGHTS")


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    from gcfsr_datasets.image_io import list_files
    from gcfsr_inference.restore.weights import (
        DEFAULT_FOLDER,
        DEFAULT_NAME,
        ENVIRONMENT,
        RELEASES,
        SUFFIXES,
        bundled,
        licence_of,
        user_folders,
    )

    folders = user_folders(args.weights_dir)
    say("Bundled (used by name):")
    for name, path in bundled().items():
        say(f"  {name}{'  [default]' if name == DEFAULT_NAME else ''}  {_size(path)}  {summary(path)}")
    for licence in dict.fromkeys(licence_of(path) or "no licence text beside them" for path in bundled().values()):
        say_text("\n".join(f"      {line}" for line in licence.splitlines()))
    if not bundled():
        say("  none in this installation")
    say(f"Your own (--weights-dir, ${ENVIRONMENT}, {DEFAULT_FOLDER}):")
    own = [path for folder in folders for path in list_files(folder) if path.suffix in SUFFIXES]
    for path in own:
        say(f"  {path}  {_size(path)}  {summary(path)}")
    if not own:
        say(f"  none; folders searched: {', '.join(map(str, folders)) or 'none exists'}")
    say("The authors' releases (not distributed here; any file name serves, the form is read from the keys):")
    for known in RELEASES:
        say(f"  {known.name}  form: {known.form}  {known.what}")
    say(f"  put them into {DEFAULT_FOLDER} or the folder of ${ENVIRONMENT}; then --checkpoint NAME")
    _print_detectors(args.weights_dir)
    return 0


def summary(path: Path) -> str:
    """One line about a checkpoint file, or why it is none of ours."""
    from gcfsr_arch.checkpoint import read_state
    from gcfsr_arch.state_dict import infer_config

    if path.suffix == ".onnx":
        return "ONNX"
    try:
        state, stored = read_state(path)
    except GCFSRError:
        return "not a checkpoint of tensors"
    config = stored or infer_config(state)
    if config is None:
        return "no generator of GCFSR (a detector, or another network)"
    form = f"{config.out_size}x{config.out_size}, form: {config.variant}"
    if config.blind:
        return f"{form}, blind"
    return f"{form}, factors {config.min_factor:g} to {config.max_factor:g}" if stored else form


def _print_detectors(folder: str | None) -> None:
    from gcfsr_inference.photo.detect import DETECTORS, find_weights, missing_weights

    say("Face detectors (for whole photographs):")
    for name in DETECTORS:
        if name == "landmarks":  # a file of the user's, no weights
            continue
        path = find_weights(name, folder)
        say(f"  {name}  {path if path else 'not found: ' + missing_weights(name, folder)}")


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
