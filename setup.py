"""Metadata of `gcfsr`: what it needs, its commands, and which folder is imported under which name."""

from setuptools import setup

PACKAGE_DIR = {
    "gcfsr_arch": "gcfsr_arch",
    "gcfsr_arch.training": "gcfsr_arch/training",
    "gcfsr_datasets": "datasets",
    "gcfsr_inference": "inference",
    "gcfsr_inference.commands": "inference/commands",
    "gcfsr_options": "options",
}

CORE = [
    "torch>=2.5",
    "torchvision>=0.20",
    "numpy>=1.26",
    "scipy>=1.11",
    "opencv-python>=4.8",
    "pillow>=10.0",
    "pyyaml>=6.0",
    "safetensors>=0.4.3",
    "rich>=13.0",
    'basicsr>=1.4.2; python_version < "3.13"',
]

setup(
    name="gcfsr",
    version="0.1.0",
    description="Generative and controllable face super-resolution (GCFSR, CVPR 2022) for BasicSR",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir=PACKAGE_DIR,
    packages=list(PACKAGE_DIR),
    py_modules=["gcfsr_autoload"],
    install_requires=CORE,
    entry_points={
        "console_scripts": ["gcfsr = gcfsr_inference.cli:main"],
    },
)
