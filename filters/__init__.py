"""Columns in, verdicts out: one module for each recipe key, the shared rules in `filters.core`."""
