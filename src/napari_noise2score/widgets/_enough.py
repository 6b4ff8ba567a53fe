"""When more training stops paying, from the held-out loss so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Training is enough when twice the time would lower the error of the result by less, in dB.
WORTHWHILE = 0.1
#: The gain of each doubling of the time, relative to that of the one before, is at most this.
SLOWEST = 0.9
FEWEST = 4  # measurements of the held-out loss
MAX_DOUBLINGS = 2  # of the time so far, that a prediction looks ahead
MAX_AHEAD = 2**MAX_DOUBLINGS - 1  # the same in units of the time so far


def seconds_until_enough(seconds: Sequence[float], losses: Sequence[float]) -> float | None:
    """Predict for how long training still pays.

    The loss is about −1 where noise hides the image and nothing is left to learn, so that 1 plus
    the loss is the share of the noise that stays in the result. Each doubling of the time lowers
    it by a constant factor less than the doubling before; the prediction extrapolates the last
    two.

    Parameters
    ----------
    seconds : sequence of float
        When the held-out loss was measured, in seconds of training, rising.
    losses : sequence of float
        The held-out loss.

    Returns
    -------
    float or None
        Seconds until twice the time lowers the error by less than `WORTHWHILE`; 0 if it does so
        already, None as long as that cannot be said. At most `MAX_AHEAD` times the time so far: the
        course of two doublings says nothing of what is further away.

    Examples
    --------
    >>> times = [10, 20, 30, 40, 50, 60, 70, 80]
    >>> round(seconds_until_enough(times, [-0.5 + 4 / t for t in times]))
    80
    >>> seconds_until_enough(times, [-0.2 - 0.003 * t for t in times])  # 240 s or more
    240.0
    >>> seconds_until_enough(times, [-0.5 + 0.1 / t for t in times])
    0.0
    >>> seconds_until_enough(times[:3], [-0.5, -0.6, -0.7]) is None
    True
    """
    if len(losses) < FEWEST:
        return None
    # the lowest so far, as a model keeps those weights
    lowest = np.minimum.accumulate(np.asarray(losses, float))
    now = float(seconds[-1])
    quarter, half, last = np.interp([now / 4, now / 2, now], seconds, lowest)
    if now / 4 < seconds[0]:
        return None
    before, gained = float(quarter - half), float(half - last)
    left = max(1 + float(last), 1e-3)
    needed = left * (1 - 10 ** (-WORTHWHILE / 10))
    factor = min(max(gained / before, 0.1), SLOWEST) if before > 0 else SLOWEST
    if gained * factor <= needed:
        return 0.0
    doublings = min(math.log(needed / gained) / math.log(factor) - 1, MAX_DOUBLINGS)
    return max(0.0, now * (2**doublings - 1))
