"""Writes a trainer's network as safetensors in half precision, as those in the package are.

    python tools/export_network.py RUN/models/net_g_latest.pth out.safetensors --options options/train_gcfsr_256.yml
        --mix FIRST_STAGE/models/net_g_latest.pth=0.06 --line blur=0:0.3=0.2:0.3 --note "licence=CC BY-NC 4.0"

`--mix` takes some of the weights from an earlier stage: less detail, more of the faces' own. `--line` makes a dial's
response even where training left it flat (`gcfsr_arch.straighten`); `benchmarks/dials.py` measures what it does.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.errors import exit_status
from gcfsr_arch.state_dict import fit
from gcfsr_arch.straighten import Line, straighten
from gcfsr_inference.commands.info import configuration_of_options


def export(
    checkpoint: Path,
    options: Path,
    target: Path,
    extra: dict[str, str],
    mix: tuple[Path, float] | None = None,
    lines: Mapping[str, Sequence[Line]] | None = None,
) -> None:
    """Writes the moving average of a trainer's checkpoint.

    Args:
        checkpoint: the trainer's net_g_*.pth.
        options: the option file it was trained by; its `network_g` goes into the metadata.
        target: the file to write.
        extra: further metadata: licence, training data.
        mix: another checkpoint of the same network and its share of the weights, in [0, 1].
        lines: by dial, where its response is made straight.

    Raises:
        GCFSRError: the options or a checkpoint cannot be read, a checkpoint does not fit the options, or a dial or line
            is invalid.
    """
    net = _network(checkpoint, options)
    if mix is not None:
        other, share = mix
        pairs = zip(net.state_dict().values(), _network(other, options).state_dict().values(), strict=True)
        for value, given in pairs:  # views of the live tensors
            value.lerp_(given, share)
    for dial, stretches in (lines or {}).items():
        result = straighten(net, dial, stretches)
        print(f"{dial}: the scaling vectors moved by {result.change:.4f} on the lines, "
              f"within {result.on_lines:.4f} of them, and by {result.elsewhere:.4f} elsewhere")  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    save_generator(net, target, half=True, extra=extra)


def _network(checkpoint: Path, options: Path) -> GCFSR:
    net = GCFSR(**configuration_of_options(str(options)))
    fit(net, read_state(checkpoint)[0], checkpoint)
    return net


def mixture(text: str) -> tuple[Path, float]:
    """Parses CHECKPOINT=SHARE."""
    path, _, share = text.rpartition("=")
    try:
        number = float(share)
    except ValueError:
        number = -1.0
    if not path or not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not CHECKPOINT=SHARE with a share in [0, 1]")
    return Path(path), number


def dial_line(text: str) -> tuple[str, Line]:
    """Parses DIAL=LOW:HIGH=FROM_LOW:FROM_HIGH."""
    try:
        dial, place, source = text.split("=")
        low, high = map(float, place.split(":"))
        from_low, from_high = map(float, source.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not DIAL=LOW:HIGH=FROM_LOW:FROM_HIGH, for example blur=0:0.3=0.2:0.3"
        ) from None
    return dial, Line(low, high, from_low, from_high)


def note(text: str) -> tuple[str, str]:
    """Parses KEY=TEXT."""
    key, equals, value = text.partition("=")
    if not key or not equals or key == "config":
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=TEXT, for example 'licence=CC BY-NC 4.0'")
    return key, value


def run(argv: Sequence[str] | None = None) -> int:
    """Writes one network; returns the exit status."""
    parser = argparse.ArgumentParser(prog="export_network", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path, help="the trainer's net_g_*.pth")
    add("target", type=Path, help="the safetensors to write")
    add("--options", type=Path, required=True, help="the option file it was trained by")
    add("--mix", type=mixture, metavar="CHECKPOINT=SHARE", help="share of an earlier stage's weights, in [0, 1]")
    add("--line", type=dial_line, action="append", default=[], metavar="DIAL=LOW:HIGH=FROM_LOW:FROM_HIGH",
        help="from LOW to HIGH the dial goes evenly from what it did at FROM_LOW to FROM_HIGH; repeatable")  # fmt: skip
    add("--note", type=note, action="append", default=[], metavar="KEY=TEXT", help="metadata; repeatable")
    args = parser.parse_args(argv)
    lines: dict[str, list[Line]] = {}
    for dial, line in args.line:
        lines.setdefault(dial, []).append(line)
    export(args.checkpoint, args.options, args.target, dict(args.note), args.mix, lines)
    print(f"written: {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(run))
