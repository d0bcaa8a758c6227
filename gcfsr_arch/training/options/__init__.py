"""Option files: one schema, the checks before anything starts, the authors' files translated. Free of BasicSR.

- `schema` with `networks`, `data`, `types`: every key, its type, default, and meaning;
- `report`: reads a file and reports every fault at once; `cross`, `names`, `registry` are its parts;
- `released`: what the authors' option files mean in our words.
"""

from gcfsr_arch.training.options.report import (
    Report,
    apply_force,
    check,
    check_file,
    json_schema,
    read_options,
    reference,
    validated,
)

__all__ = ["Report", "apply_force", "check", "check_file", "json_schema", "read_options", "reference", "validated"]
