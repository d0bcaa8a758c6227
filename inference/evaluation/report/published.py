"""The numbers printed in the paper (He et al., CVPR 2022), for the rows marked as published.

They were measured by the authors on CelebA-HQ with their own networks and programs; none is measured here.
"""

from dataclasses import dataclass, field

SOURCE = "He et al., GCFSR, CVPR 2022"
INPUT_SOURCE = "Wang et al., GFPGAN, CVPR 2021"

# Table 1: parameters in millions
PARAMETERS = {"GLEAN": 188.29, "GFPGAN": 90.76, "GPEN": 71.21, "GCFSR": 66.69}

_TABLE2 = ("psnr", "ssim", "lpips", "fid", "arcface")
_TABLE3 = _TABLE2
_TABLE4 = ("psnr", "ssim", "lpips", "niqe", "fid")


def _rows(metrics: tuple[str, ...], rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {method: dict(zip(metrics, values, strict=True)) for method, values in rows.items()}


@dataclass(frozen=True)
class Protocol:
    """What a published table was measured on.

    Attributes:
        title: the table.
        data: a description of its images and inputs.
        images: the number of images, None if the paper does not say.
        input: metrics of the input itself (condition -> metric -> value), if known. Not confirmed: quoted from memory
            of `INPUT_SOURCE` and found in no source; used for a warning, never shown as a result.
    """

    title: str
    data: str
    images: int | None = None
    input: dict[str, dict[str, float]] = field(default_factory=dict)


PUBLISHED_PROTOCOLS = {
    "table2": Protocol("Table 2", "100 images of CelebA-HQ, 1024x1024", 100),
    "table3": Protocol("Table 3", "CelebA-Test, 512x512", 3000, {"blind": {"psnr": 25.35, "ssim": 0.6848}}),
    "table4": Protocol("Table 4", "CelebA-HQ, 512x512"),
}

# table -> condition -> method -> metric; the paper does not say which network its LPIPS uses
PUBLISHED: dict[str, dict[str, dict[str, dict[str, float]]]] = {
    "table2": {
        "x16": _rows(_TABLE2, {
            "PULSE": (20.08, 0.6032, 0.4651, 77.89, 0.4947),
            "mGANprior": (23.80, 0.6674, 0.4668, 100.87, 0.6794),
            "GLEAN": (26.88, 0.6953, 0.2693, 29.99, 0.9682),
            "GPEN": (26.51, 0.6988, 0.2827, 37.94, 0.9473),
            "GFPGAN": (27.07, 0.7101, 0.2716, 34.49, 0.9623),
            "GCFSR": (27.17, 0.7100, 0.2604, 30.48, 0.9631),
        }),
        "x32": _rows(_TABLE2, {
            "PULSE": (19.63, 0.5848, 0.4789, 78.26, 0.5177),
            "mGANprior": (21.26, 0.6117, 0.5099, 105.62, 0.5230),
            "GLEAN": (24.34, 0.6534, 0.3257, 46.57, 0.7750),
            "GPEN": (24.65, 0.6717, 0.3340, 50.40, 0.7641),
            "GFPGAN": (24.81, 0.6751, 0.3128, 46.00, 0.7881),
            "GCFSR": (24.95, 0.6748, 0.3061, 43.34, 0.7911),
        }),
        "x64": _rows(_TABLE2, {
            "PULSE": (18.52, 0.5604, 0.5119, 91.55, 0.4680),
            "mGANprior": (18.69, 0.5721, 0.5530, 108.17, 0.4397),
            "GLEAN": (21.38, 0.6016, 0.4109, 62.93, 0.6118),
            "GPEN": (22.20, 0.6291, 0.3906, 67.50, 0.5978),
            "GFPGAN": (22.26, 0.6285, 0.3675, 59.33, 0.6558),
            "GCFSR": (22.39, 0.6315, 0.3663, 57.15, 0.6620),
        }),
    },
    "table3": {
        "blind": _rows(_TABLE3, {
            "DFDNet": (23.51, 0.6674, 0.4342, 58.72, 0.5980),
            "PSFRGAN": (24.66, 0.6439, 0.4199, 43.33, 0.6464),
            "GPEN": (24.63, 0.6477, 0.4004, 41.99, 0.6993),
            "GFPGAN": (24.65, 0.6725, 0.3646, 42.61, 0.7156),
            "GCFSR": (26.49, 0.7120, 0.3356, 42.23, 0.7257),
        }),
    },
    "table4": {
        "x4": _rows(_TABLE4, {
            "GFPGAN": (27.32, 0.7686, 0.1421, 4.42, 36.76),
            "GPEN": (27.10, 0.7593, 0.1534, 4.18, 43.81),
            "HiFaceGAN": (27.39, 0.7397, 0.1409, 4.06, 30.28),
            "DFDNet": (26.47, 0.7802, 0.1838, 4.41, 45.80),
            "PSFRGAN": (27.24, 0.7607, 0.1611, 4.79, 35.85),
            "GCFSR adv": (27.81, 0.7711, 0.1210, 3.84, 27.90),
        }),
        "x8": _rows(_TABLE4, {
            "GFPGAN": (25.63, 0.7069, 0.1736, 4.26, 42.88),
            "GPEN": (25.94, 0.7038, 0.1848, 4.31, 47.32),
            "HiFaceGAN": (25.47, 0.6774, 0.2294, 3.61, 61.52),
            "DFDNet": (25.03, 0.7023, 0.2313, 4.60, 52.98),
            "PSFRGAN": (24.90, 0.6871, 0.2085, 4.58, 47.10),
            "GCFSR adv": (26.02, 0.7139, 0.1704, 4.14, 39.99),
        }),
    },
}  # fmt: skip
