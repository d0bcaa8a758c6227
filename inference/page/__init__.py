"""The page with a slider that `gcfsr demo` serves."""
