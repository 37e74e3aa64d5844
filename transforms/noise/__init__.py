"""How noisy a pair is: numeric cores of the detectors, arrays in and arrays out."""
