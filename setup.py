"""Which folder is imported under which name. Everything else about the package is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

# import name: folder; folders below become packages of their own
FOLDERS = {
    "gcfsr": "gcfsr",
    "gcfsr_arch": "gcfsr_arch",
    "gcfsr_datasets": "datasets",
    "gcfsr_inference": "inference",
    "gcfsr_measure": "measure",
    "gcfsr_options": "options",
}


def packages() -> list[str]:
    """Every folder of ours that holds files, as import names."""
    return [
        name if not below else f"{name}.{below}"
        for name, folder in FOLDERS.items()
        for below in ("", *find_namespace_packages(folder, exclude=["__pycache__", "*.__pycache__"]))
    ]


setup(package_dir=FOLDERS, packages=packages())
