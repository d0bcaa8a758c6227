"""`gcfsr evaluate`: conditions, methods, degraded inputs, scores; `report/` makes the report."""
