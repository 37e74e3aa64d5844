"""The end effect of a decision: small models trained on what was kept, on a random part, on the pool."""
