"""Nearest neighbours among the samples of a decision, by text, by image or by another sample."""

from curate.search.engine import SearchEngine

__all__ = ["SearchEngine"]
