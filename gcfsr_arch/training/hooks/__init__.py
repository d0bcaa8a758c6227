"""Every place where BasicSR is patched; nothing outside this folder patches it.

- `table`: the names that are replaced, and the check that this BasicSR has them;
- `parse`: our `parse_options`, which acts for our model types alone and hooks the pipeline that called it;
- `run`: what replaces functions of BasicSR's train.py in a run of ours.
"""

from gcfsr_arch.training.hooks.parse import install, run_pipeline
from gcfsr_arch.training.hooks.table import replaced

__all__ = ["install", "replaced", "run_pipeline"]
