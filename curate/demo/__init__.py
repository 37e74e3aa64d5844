"""The demonstration: a drawn world, a pool of shards with planted defects, and a small CLIP for both."""
