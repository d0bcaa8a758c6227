"""`gcfsr info`: parameters by part, multiply-adds and memory of a configuration or checkpoint (Table 1)."""

import argparse
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import say, say_text

PAPER = (("GLEAN", 188.29), ("GFPGAN", 90.76), ("GPEN", 71.21), ("GCFSR", 66.69))  # Table 1, parameters in millions
EXAMPLES = """
gcfsr info gcfsr-256
gcfsr info options/train_gcfsr_x64.yml
gcfsr info --out-size 1024 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="CONFIG_OR_CHECKPOINT", help="option file (.yml), or a checkpoint as for restore"
    )
    parser.add_argument("--out-size", type=int, help="instead of a file: output size, for example 1024")
    parser.add_argument("--narrow", type=float, default=1.0, help="factor on every width")
    parser.add_argument("--num-style-feat", type=int, default=512, help="length of a latent code")
    parser.add_argument("--channel-multiplier", type=float, default=2.0, help="widens the levels above 32 pixels")
    parser.add_argument("--variant", choices=["paper", "released"], default="paper", help="form of Eq. 4")
    parser.add_argument("--blind", action="store_true", help="s fixed at 1")
    parser.add_argument("--no-style-modulation", action="store_true", help="the ablation of Fig. 7")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from gcfsr_arch.files import check_file
    from gcfsr_inference.restore.weights import resolve_checkpoint

    if (args.source is None) == (args.out_size is None):
        raise GCFSRError("info: name an option file or checkpoint, or give --out-size, and not both")
    if args.source is not None and is_options(args.source):
        check_file(args.source)  # raises before torch is loaded, as the next line does
    elif args.source is not None:
        args.source = str(resolve_checkpoint(args.source))
    config = configuration_of(args)

    from gcfsr_inference.evaluation.inventory import take_inventory

    inventory = take_inventory(config)
    if args.json:
        say_text(json.dumps({"config": config, **asdict(inventory), "parameters": inventory.parameters}, indent=1))
        return
    say("configuration  " + ", ".join(f"{key} {value}" for key, value in config.items()))
    for part, count in inventory.parts.items():
        say(f"  {part:28} {count:>12,}")
    say(f"  {'parameters':28} {inventory.parameters:>12,}  ({inventory.parameters / 1e6:.2f} M)")
    say(f"{'multiply-adds, one face':30} {inventory.macs / 1e9:>10.2f} G  ", end="")
    say(f"(encode {inventory.encode_macs / 1e9:.2f}, decode {inventory.decode_macs / 1e9:.2f} for each further s)")
    say(f"{'weights in fp32':30} {inventory.parameters * 4 / 2**20:>10.1f} MiB")
    say(f"{'peak memory, one face, fp32':30} {inventory.peak_bytes / 2**20:>10.1f} MiB  (weights and live tensors)")
    say("published      " + ", ".join(f"{name} {size} M" for name, size in PAPER) + " parameters (Table 1)")


def configuration_of(args: argparse.Namespace) -> dict[str, Any]:
    """The network's arguments from the command line, an option file or a checkpoint."""
    if args.source is None:
        return {
            "out_size": args.out_size, "narrow": args.narrow, "num_style_feat": args.num_style_feat,
            "channel_multiplier": args.channel_multiplier, "variant": args.variant, "blind": args.blind,
            "style_modulation": not args.no_style_modulation,
        }  # fmt: skip
    if is_options(args.source):
        return configuration_of_options(args.source)
    from gcfsr_arch import load_generator

    return load_generator(args.source).config.to_dict()


def is_options(source: str) -> bool:
    """Whether a name is that of an option file."""
    return source.endswith((".yml", ".yaml"))


def configuration_of_options(path: str) -> dict[str, Any]:
    """The block `network_g` of an option file, the released code's names included.

    Raises:
        GCFSRError: for a file that cannot be read, has no such block, or names another network.
    """
    import inspect
    from pathlib import Path

    from gcfsr_arch import GCFSR
    from gcfsr_arch.training.options import read_options
    from gcfsr_arch.training.options.released import generator_options

    opt, _ = read_options(Path(path))
    network = opt.get("network_g")
    if not isinstance(network, dict):
        raise GCFSRError(f"{path}: there is no block network_g, which describes the generator")
    network = generator_options(opt)
    if network.pop("type", None) != "GCFSR":
        raise GCFSRError(f"{path}: network_g: type: {opt['network_g'].get('type')} is not a network of ours; GCFSR is")
    unknown = sorted(network.keys() - inspect.signature(GCFSR).parameters.keys())
    if unknown:
        raise GCFSRError(f"{path}: network_g: unknown {', '.join(unknown)}; `gcfsr check-options {path}` says more")
    return network
