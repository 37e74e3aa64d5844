"""Curate: streaming curation of image-text data, with a verdict for every row."""

__version__ = "0.1.0"
