"""Runners: one module each, named as `--runner` names it."""
