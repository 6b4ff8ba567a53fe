"""Compare the transients of the cells of a calcium movie with those of its truth."""

from __future__ import annotations

import numpy as np

BEFORE_PEAK = 8  # frames


def transients(x: np.ndarray, truth: np.ndarray, masks: np.ndarray | None) -> str:
    """Return height and time of rise of the transients of ΔF/F, beside the truth, as text.

    F at rest is the mean of the frames in which the truth is at rest, so that noise does not bias
    it. The height is that of each peak of the truth; the rise is that of the mean of all transients
    around their peaks, so that it is one of the method and not of the noise of single frames.
    """
    if masks is None:
        return ""
    heights, around = [], []
    for mask in masks:
        ours, known = (a[:, mask].mean(1) - 20 for a in (x, truth))
        rest = known <= np.quantile(known, 0.2) * 1.05
        ours, known = (trace / trace[rest].mean() - 1 for trace in (ours, known))
        for t in range(BEFORE_PEAK, len(known) - 4):
            if known[t] == known[t - 3 : t + 4].max() and known[t] > 0.4:
                heights.append(ours[t] / known[t])
                window = slice(t - BEFORE_PEAK, t + 4)
                around.append((ours[window], known[window]))
    mean_ours, mean_known = np.mean(around, axis=0)
    later = _half_of_rise(mean_ours) - _half_of_rise(mean_known)
    return (
        f"{len(heights)} peaks: height {np.mean(heights):.3f} of the truth (each ± "
        f"{np.std(heights):.3f}), mean transient {mean_ours.max() / mean_known.max():.3f}, "
        f"half of its rise {later:+.2f} frames later"
    )


def _half_of_rise(trace: np.ndarray) -> float:
    """Return when a transient has risen half the way from before it to its peak."""
    peak = int(np.argmax(trace))
    start = trace[: BEFORE_PEAK // 2].mean()
    middle = (start + trace[peak]) / 2
    t = next(t for t in range(peak, 0, -1) if trace[t - 1] < middle)
    return t - (trace[t] - middle) / (trace[t] - trace[t - 1])
