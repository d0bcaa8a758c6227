"""Training with BasicSR. Importing any module of this package loads BasicSR first, where it is installed.

BasicSR imports `gcfsr_arch.register` while it is itself imported, and that imports the modules of this package. Loading
BasicSR here, before any of them has begun, keeps every one of them from being seen half imported.
"""

from importlib import import_module
from importlib.util import find_spec

import gcfsr_autoload

gcfsr_autoload.install()  # BasicSR's import fails on today's torchvision without it
if find_spec("basicsr") is not None:  # checking an option file works without it
    import_module("basicsr")
