"""`gcfsr train`: BasicSR's trainer on an option file, with our names registered."""

import argparse

EXAMPLES = """
gcfsr train -opt options/train_gcfsr_x64.yml --auto_resume
torchrun --nproc-per-node 8 --no-python gcfsr train -opt train_gcfsr_x64.yml --launcher pytorch
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of BasicSR's `train.py`, which parses them again."""
    parser.add_argument(
        "-opt", required=True, metavar="FILE", help="option file, or the name of one that comes with gcfsr"
    )
    parser.add_argument("--auto_resume", action="store_true", help="resume from the newest state of the run")
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What training and testing share."""
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="pytorch: under torchrun"
    )
    parser.add_argument("--debug", action="store_true", help="short intervals for validation and checkpoints")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--force_yml", nargs="+", metavar="KEY:KEY=VALUE", help="change options: train:total_iter=100")


def command_line(args: argparse.Namespace) -> list[str]:
    """The arguments as BasicSR's parser takes them."""
    line = ["-opt", args.opt, "--launcher", args.launcher]
    line += [f"--{flag}" for flag in ("auto_resume", "debug") if getattr(args, flag, False)]
    return line + (["--force_yml", *args.force_yml] if args.force_yml else [])


def run(args: argparse.Namespace) -> None:
    from gcfsr_arch.train import run_pipeline

    run_pipeline(command_line(args), is_train=True)
