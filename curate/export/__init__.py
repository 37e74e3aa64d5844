"""The targets of `curate export`: one module for each, found by its name."""
