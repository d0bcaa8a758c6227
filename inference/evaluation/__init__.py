"""What `gcfsr evaluate` is made of: conditions, methods, metrics, their statistics and the report."""
