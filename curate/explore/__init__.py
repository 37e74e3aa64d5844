"""Fast answers about one decision: histograms, cuts and pages of samples, for people who look around."""
