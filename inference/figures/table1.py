"""Table 1: parameters and multiply-adds, of the published sizes and of any checkpoint, beside the paper's numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcfsr_arch.files import make_folder
from gcfsr_datasets.image_io import write_bytes_atomic
from gcfsr_inference.evaluation.report.published import PARAMETERS, SOURCE
from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.figures.common import load_net

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "GCFSR 1024, paper": {"out_size": 1024},
    "GCFSR 1024, released": {"out_size": 1024, "variant": "released"},
    "GCFSR 1024, without style modulation": {"out_size": 1024, "style_modulation": False},
    "GCFSR 512, paper": {"out_size": 512},
    "GCFSR 512, released": {"out_size": 512, "variant": "released"},
    "GCFSR 512 blind, released": {"out_size": 512, "variant": "released", "blind": True},
}


def table1(checkpoints: Sequence[str], out: Path) -> list[Path]:
    """Writes table1.md and table1.json.

    Args:
        checkpoints: files to add as rows.
        out: folder.
    """
    from gcfsr_inference.evaluation.inventory import take_inventory

    rows = []
    configs = CONFIGURATIONS | {Path(name).stem: load_net(name).config.to_dict() for name in checkpoints}
    for name, config in configs.items():
        inventory = take_inventory(config)
        rows.append(
            {
                "name": name, "parameters": inventory.parameters, "macs": inventory.macs,
                "encode_macs": inventory.encode_macs, "decode_macs": inventory.decode_macs, "published": False,
            }
        )  # fmt: skip
    rows += [{"name": n, "parameters": round(m * 1e6), "published": True} for n, m in PARAMETERS.items()]
    lines = [
        "| network | parameters | multiply-adds, one face | of these decode, for each further s |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if row["published"]:
            lines.append(f"| *{row['name']} (published)* | *{row['parameters'] / 1e6:.2f} M* | | |")
        else:
            macs, decode = (f"{row[key] / 1e9:.1f} G" for key in ("macs", "decode_macs"))
            lines.append(f"| {row['name']} | {row['parameters'] / 1e6:.2f} M | {macs} | {decode} |")
    lines += ["", f"Rows marked (published) are Table 1 of {SOURCE}."]
    make_folder(out, "--out")
    write_json(out / "table1.json", rows)
    write_bytes_atomic(out / "table1.md", ("\n".join(lines) + "\n").encode())
    return [out / "table1.md", out / "table1.json"]
