"""Bytes, models, indexes and Beam: read, decode, measure, relate, decide and write."""
