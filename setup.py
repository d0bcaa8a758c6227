"""Metadata of `gcfsr`: what it needs, its commands, and which folder is imported under which name."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

# import name: folder; folders below become packages of their own
FOLDERS = {
    "gcfsr": "gcfsr",
    "gcfsr_arch": "gcfsr_arch",
    "gcfsr_datasets": "datasets",
    "gcfsr_inference": "inference",
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
    "pydantic>=2.7",  # the option files' schema
    "rich>=13.0",
    'basicsr>=1.4.2; python_version < "3.13"',  # its setup fails from 3.13 on: README says how to add it from source
]

EXTRAS = {
    "photo": ["facexlib>=0.3.0"],
    "demo": ["gradio>=6.0"],
    "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.2"],
    "openvino": ["openvino>=2024.4"],
    "video": ["imageio-ffmpeg>=0.5"],
    "eval": ["facexlib>=0.3.0", "lpips>=0.1.4", "matplotlib>=3.8", "onnxruntime>=1.18", "torch-fidelity>=0.3.0"],
    "hub": ["huggingface_hub>=0.24"],
    "spandrel": ["spandrel>=0.4.0"],
    "training": [
        "lmdb>=1.4",
        "matplotlib>=3.8",
        "requests>=2.31",
        "scikit-image>=0.22",  # its astronaut is the face of `make demo`
        'tensorboard>=2.16; python_version >= "3.13"',  # elsewhere BasicSR brings tb-nightly, the same package
        "tqdm>=4.66",
    ],
}
EXTRAS["all"] = sorted({package for group in EXTRAS.values() for package in group})
EXTRAS["test"] = [
    *EXTRAS["all"],
    "basedpyright>=1.20",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "packaging>=24.0",
    "playwright>=1.45",
    "pytest>=8.0",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
    "torchmetrics>=1.4",
    "wheel>=0.43",
]


def packages() -> list[str]:
    """Every folder of ours that holds files, as import names."""
    return [
        name if not below else f"{name}.{below}"
        for name, folder in FOLDERS.items()
        for below in ("", *find_namespace_packages(folder, exclude=["__pycache__", "*.__pycache__"]))
    ]


setup(
    name="gcfsr",
    version="0.1.0",
    description="Generative and controllable face super-resolution (GCFSR, CVPR 2022) for BasicSR",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir=FOLDERS,
    packages=packages(),
    package_data={"": ["*.yml", "*.onnx", "*.safetensors", "*.md", "*.json", "LICENSE*", "py.typed"]},
    py_modules=["gcfsr_autoload"],
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["gcfsr = gcfsr_inference.cli:main"],
        "torch.backends": ["gcfsr = gcfsr_autoload:register"],
    },
)
