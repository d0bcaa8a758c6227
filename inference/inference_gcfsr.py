"""The script that people expect to find: `python inference/inference_gcfsr.py -i IN -o OUT` is `gcfsr restore`."""

import sys

from gcfsr_inference.cli import main

if __name__ == "__main__":
    sys.exit(main(["restore", *sys.argv[1:]]))
