"""`gcfsr export`: a checkpoint as ONNX or safetensors."""

import argparse

from gcfsr_inference.console import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-v", "--checkpoint", metavar="CHECKPOINT", help="file, bundled name, or name in the weights folder")
    add("-o", "--output", required=True, metavar="FILE", help="NAME.onnx or NAME.safetensors")
    add("--format", choices=["onnx", "safetensors"], help="[by the output's suffix]")
    add("--parts", choices=["two", "one"], default="two",
        help="ONNX: NAME.encoder.onnx and NAME.decoder.onnx, or one NAME.onnx [two]")  # fmt: skip
    add("--noise", choices=["input", "fixed", "zero"], default="input",
        help="ONNX: noise maps as inputs, or constant in the file [input]")  # fmt: skip
    add("--seed", type=int, default=0, help="ONNX: of fixed noise [0]")
    add("--half", action="store_true", help="safetensors: store 16-bit floats, half the size")


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from gcfsr_arch import load_generator, save_generator
    from gcfsr_arch.errors import GCFSRError
    from gcfsr_arch.files import make_folder
    from gcfsr_inference.backends.export import export_onnx
    from gcfsr_inference.restore.weights import resolve_checkpoint

    target = Path(args.output)
    kind = args.format or target.suffix.removeprefix(".")
    if kind not in ("onnx", "safetensors"):
        raise GCFSRError(f"{target}: name it .onnx or .safetensors, or give --format")
    if args.half and kind == "onnx":
        raise GCFSRError("--half: belongs to safetensors; runtimes convert ONNX themselves")
    make_folder(target.parent, "-o")
    source = resolve_checkpoint(args.checkpoint)
    net = load_generator(source)
    if kind == "safetensors":
        target = target.with_suffix(".safetensors")
        if target.resolve() == source.resolve():
            raise GCFSRError(f"{target}: the output is the input; choose another name")
        save_generator(net, target, half=args.half)
        written = [target]
    else:
        written = export_onnx(net, target, args.parts, args.noise, args.seed)
    for path in written:
        say(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
