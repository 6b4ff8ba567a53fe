"""What a training may be asked for, by the library and by the files of its settings."""

MAX_STEPS = 10**9
# a year
MAX_MINUTES = 525_600.0
# what both numpy's and torch's generators take
MAX_SEED = 2**63 - 1
