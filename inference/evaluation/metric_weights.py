"""Finds and downloads the metrics' weights, and says what is missing."""

import os
from glob import escape
from importlib.util import find_spec
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_inference.restore.weights import DEFAULT_FOLDER, find_file, user_folders
from gcfsr_measure.catalogue import ENTRIES, PAPER, SUBSTITUTES, Entry

INSTALL = {  # the others are in the extra `eval`
    "basicsr": "pip install --no-build-isolation 'gcfsr[train]'",
    "pyiqa": "pip install pyiqa; its licence is non-commercial",
}


def find_weights(entry: Entry, option: str | os.PathLike | None = None) -> Path | None:
    """The weights of a metric: a path, or a name in the folders of `restore.weights` or in torch's own cache.

    Args:
        entry: a metric with weights.
        option: the folder of `--weights-dir`.

    Raises:
        GCFSRError: as of `user_folders`.
    """
    import torch

    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for name in filter(None, (entry.weights, entry.also)):
        if Path(name).is_file():
            return Path(name)
        found = find_file(escape(name), option) if os.sep not in name else None
        if found or (hub / name).is_file():
            return found or hub / name
    return None


def download(entry: Entry, folder: Path) -> Path:
    """Downloads the weights of a metric into a folder.

    Raises:
        GCFSRError: the folder cannot be made, or the download failed.
    """
    import torch

    assert entry.weights is not None
    assert entry.url is not None
    make_folder(folder, "--weights-dir")
    target = folder / entry.weights
    try:
        torch.hub.download_url_to_file(entry.url, str(target), progress=False)
    except OSError as error:  # URLError is one
        raise GCFSRError(f"{entry.weights}: download failed ({error}); put it into {folder} yourself") from error
    return target


def availability(
    entry: Entry, option: str | os.PathLike | None = None, may_download: bool = False
) -> tuple[Path | None, str]:
    """The weights' path and "ok", or None and what is missing: a package, or the weights file and its folder."""
    absent = [package for package in entry.packages if find_spec(package) is None]
    if absent:
        how = INSTALL.get(absent[0], "pip install 'gcfsr[eval]'")
        return None, f"no package: {absent[0]} ({how})"
    if entry.weights is None:
        return None, "ok"
    target = (user_folders(option) or [Path(os.path.expanduser(DEFAULT_FOLDER))])[0]
    path = find_weights(entry, option)
    if path is None and may_download and entry.url:
        path = download(entry, target)
    return (path, "ok") if path else (None, f"no weights: {Path(entry.weights).name} goes to {shown(target)}")


def shown(folder: Path) -> str:
    """A folder as a report names it: below the home folder, or by its own name; no other path of the machine."""
    home = Path(os.path.expanduser("~"))
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else folder.name


def default_metrics(option: str | None) -> list[str]:
    """The paper's metrics, all of them, and those substitutes whose weights are found."""
    return [*PAPER, *(key for key in SUBSTITUTES if availability(ENTRIES[key], option)[1] == "ok")]
