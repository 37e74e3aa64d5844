"""Continuous curation: calibrate once, then decide shards as they arrive."""
