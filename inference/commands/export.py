"""`gcfsr export`: a checkpoint as ONNX, safetensors or one HTML page."""

import argparse

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import note

EXAMPLES = """
gcfsr export -o gcfsr.onnx
gcfsr export -v net_g_latest.pth -o face.safetensors --half
gcfsr export -o face.html --ort onnxruntime-web-1.30.0.tgz
"""

FORMATS = ("onnx", "safetensors", "html")
SMALL = "gcfsr-nano"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-v", "--checkpoint", metavar="CHECKPOINT",
        help="file, bundled name, or name in the weights folder [gcfsr-256; HTML: gcfsr-nano]")  # fmt: skip
    add("-o", "--output", required=True, metavar="FILE", help="NAME.onnx, NAME.safetensors or NAME.html")
    add("--format", choices=FORMATS, help="[by the output's suffix]")
    add("--parts", choices=["two", "one"], default="two",
        help="ONNX: NAME.encoder.onnx and NAME.decoder.onnx, or one NAME.onnx [two]")  # fmt: skip
    add("--noise", choices=["input", "fixed", "zero"], default="input",
        help="ONNX: noise maps as inputs, or constant in the file [input]")  # fmt: skip
    add("--seed", type=int, default=0, help="ONNX, HTML: of fixed noise [0]")
    add("--half", action="store_true", help="safetensors: store 16-bit floats, half the size")
    add("--ort", metavar="FILE", help="HTML: the npm package onnxruntime-web, as `npm pack onnxruntime-web` writes it")


def run(args: argparse.Namespace) -> None:
    import os
    from pathlib import Path

    from gcfsr_arch.files import check_folder, make_folder
    from gcfsr_inference.restore.dial import check_seed
    from gcfsr_inference.restore.weights import licence_of, resolve_checkpoint

    check_seed(args.seed)
    target = Path(args.output)
    kind = args.format or target.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise GCFSRError(f"{target}: name it .onnx, .safetensors or .html, or give --format")
    if args.half and kind != "safetensors":
        raise GCFSRError(
            "--half: belongs to safetensors; runtimes convert ONNX themselves, and HTML holds halves anyway"
        )
    if (kind == "html") != bool(args.ort):
        from gcfsr_inference.page.one_file import ORT

        raise GCFSRError(f"--ort: HTML needs it, no other format takes it; `npm pack {ORT}` writes the file")
    check_folder(target.parent, "-o")
    source = resolve_checkpoint(args.checkpoint or (SMALL if kind == "html" else None))
    if kind == "safetensors":
        target = target.with_suffix(".safetensors")
        if os.path.realpath(target) == os.path.realpath(source):
            raise GCFSRError(f"{target}: the output is the input; choose another name")

    from gcfsr_arch import load_generator, save_generator
    from gcfsr_inference.backends.export import export_onnx
    from gcfsr_inference.page.one_file import export_html, read_ort

    runtime = read_ort(Path(args.ort)) if kind == "html" else {}  # raises before the network is read
    note(f"reading {source}", error=True)
    net = load_generator(source)
    if kind == "safetensors":
        make_folder(target.parent, "-o")
        save_generator(net, target, half=args.half)
        written = [target]
    elif kind == "html":
        page = target.with_suffix(".html")
        make_folder(target.parent, "-o")
        written = [export_html(net, page, runtime, licence_of(source) or "", args.seed)]
    else:
        written = export_onnx(net, target, args.parts, args.noise, args.seed, lambda line: note(line, error=True))
    for path in written:
        note(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
