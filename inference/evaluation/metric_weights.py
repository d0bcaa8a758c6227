"""Finds and downloads the metrics' weights, and says what is missing."""

from importlib.util import find_spec
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.restore.weights import DEFAULT_FOLDER, user_folders
from gcfsr_measure.catalogue import ENTRIES, PAPER, SUBSTITUTES, Entry

INSTALL = {"pyiqa": "pip install pyiqa; its licence is non-commercial"}  # the others are in an extra


def weights_folders(option: str | None) -> list[Path]:
    """Where weights are looked for: --weights, GCFSR_WEIGHTS, the user's cache; never empty."""
    return user_folders(option) or [Path(DEFAULT_FOLDER).expanduser()]


def find_weights(entry: Entry, folders: list[Path], download: bool = False) -> Path | None:
    """Looks a weights file up in the folders, then in torch's own cache, and downloads it only when asked to.

    Args:
        entry: the metric whose weights (a name or a path) are wanted.
        folders: where to look, in this order; a download goes to the first.
        download: whether the network may be used.

    Raises:
        GCFSRError: the download failed.
    """
    import torch

    assert entry.weights is not None
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for file in filter(None, (entry.weights, entry.also)):
        for path in (Path(file), *(folder / file for folder in folders), hub / file):
            if path.is_file():
                return path
    if not (download and entry.url):
        return None
    folders[0].mkdir(parents=True, exist_ok=True)
    target = folders[0] / entry.weights
    try:
        torch.hub.download_url_to_file(entry.url, str(target), progress=False)
    except OSError as error:  # URLError is one
        raise GCFSRError(f"{entry.weights}: download failed ({error}); put it into {folders[0]} yourself") from error
    return target


def availability(entry: Entry, folders: list[Path], download: bool = False) -> tuple[Path | None, str]:
    """The weights' path and "ok", or None and what is missing: a package, or the weights file and its folder."""
    absent = [package for package in entry.packages if find_spec(package) is None]
    if absent:
        how = INSTALL.get(absent[0], "pip install 'gcfsr[eval]'")
        return None, f"no package: {absent[0]} ({how})"
    if entry.weights is None:
        return None, "ok"
    path = find_weights(entry, folders, download)
    return (path, "ok") if path else (None, f"no weights: {Path(entry.weights).name} goes to {shown(folders[0])}")


def shown(folder: Path) -> str:
    """A folder as a report may name it: below the home folder, or by its own name; no other path of the machine."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else folder.name


def default_metrics(weights: str | None) -> list[str]:
    """The paper's metrics, all of them, and those substitutes whose weights are found."""
    folders = weights_folders(weights)
    return [*PAPER, *(key for key in SUBSTITUTES if availability(ENTRIES[key], folders)[1] == "ok")]
