"""Limits of the training budget and seed, for the library and for configuration files."""

MAX_STEPS = 10**9
MAX_MINUTES = 525_600.0  # a year
MAX_SEED = 2**63 - 1  # accepted by the generators of both numpy and torch
