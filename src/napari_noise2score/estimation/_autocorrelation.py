"""How much of their noise neighbouring pixels share, read off single frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._dct import ORDER, SIDE, SORTS, power_of
from ._dct_power import MOST, ROUNDS, USED, patch_powers, without_pictures
from ._moments import BINS, LEAST

# noise is taken to be shared no farther than this, in pixels
REACH = 2
# a correlation that single frames tell from that of a picture
TOLD = 0.2
# groups of patches by structure, as shares of all. The calmest two are taken for the noise, or the
# calmest alone where more than this of them is a picture. The next four, less these, show what
# pictures there are: the steepest are unlike what is left in the calmest
SORTED = 0.02, 0.05, 0.1, 0.2, 0.4, 0.7
SHOWN, PICTURE = 4, 0.1
# how far the power of the calmest is known at best
KNOWN = 0.01
# waves that are neither coarse nor fine: what they hold is taken for the level of the noise
MIDDLE = (ORDER > 4) & (ORDER < 9)


def correlations_of_frames(
    frames: Sequence[np.ndarray], cut: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Give the correlation of the noise of pixels by their distance.

    Parameters
    ----------
    frames : sequence of 2-D ndarray
        Single noisy planes.
    cut : sequence of 2-D ndarray
        Infinite where a pixel is not valid, else 0.

    Returns
    -------
    ndarray
        Shape ``(5, 5)``, 1 in the middle, the same on opposite sides. It is 0 elsewhere if
        neighbours seem opposed, as they do where too much was taken off for the picture.

    Notes
    -----
    The power of cosine waves in the calmest patches is that of the noise, which follows from its
    correlations, and that of some picture left. What pictures are like is seen from the power that
    less calm patches have more. Least squares over the waves tell both apart.

    Examples
    --------
    >>> from napari_noise2score.noise import A
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (8, 8)), np.ones((40, 40)))
    >>> noisy = scene + A.apply_to_image(20 * rng.standard_normal(scene.shape))
    >>> bool(abs(correlations_of_frames([noisy])[2, 3] - 0.48) < 0.03)
    True
    """
    first, second, *others = power_of_calm(frames, cut)
    lags = [(y, x) for y in range(REACH + 1) for x in range(-REACH, REACH + 1) if y > 0 or x >= 0]
    sizes = np.diff(SORTED, prepend=0)[:2] / SORTED[1]
    both = sizes[0] * first + sizes[1] * second
    shared, _ = _told(both, others, lags, 1)
    white = np.zeros_like(shared)
    white[REACH, REACH] = 1
    apart = shared - white
    largest = apart.flat[np.abs(apart).argmax()]
    if largest <= TOLD:
        return white if largest < -TOLD else shared
    # now for how it is correlated, more exactly
    closer, picture = _told(both, others, lags, ROUNDS)
    if picture > PICTURE:
        closer, _ = _told(first, [second, *others], lags, ROUNDS)
    # correlations above 1 there are none: so little is left of the noise that it says nothing
    return closer if np.abs(closer).max() <= 1 else shared


def _told(
    calm: np.ndarray,
    others: Sequence[np.ndarray],
    lags: Sequence[tuple[int, int]],
    rounds: int,
) -> tuple[np.ndarray, float]:
    """Correlation of the noise by distance, and how much of the calm patches is picture."""
    pictures = np.stack([other - calm for other in others[:SHOWN]], axis=1)
    noise = np.stack([_power_of_lag(y, x)[USED] for y, x in lags], axis=1)
    found, left, _ = without_pictures(calm[USED], noise, pictures[USED], KNOWN, rounds)
    shared = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    for (y, x), value in zip(lags, found, strict=False):
        shared[REACH + y, REACH + x] = shared[REACH - y, REACH - x] = value / found[0]
    return shared, float(left.sum() / calm[USED].sum())


def power_of_calm(
    frames: Sequence[np.ndarray], cut: Sequence[np.ndarray], most: int = MOST
) -> np.ndarray:
    """Power of each wave in groups of patches, the calmest first, in units of the noise's level.

    What frames share is their noise: the calm patches of all of them are those of the calmest. No
    more than so many patches are looked at.
    """
    most = most // len(frames)
    parts = [
        patch_powers(frame, frame, most, np.random.default_rng(0), cut[i] if cut else None)
        for i, frame in enumerate(frames)
    ]
    light, power = (np.concatenate(part) for part in zip(*parts, strict=True))
    if len(light) < LEAST:
        raise ValueError("too few patches to tell how their noise is correlated")
    edges = np.unique(np.quantile(light, np.linspace(0, 1, BINS + 1)))
    which = np.searchsorted(edges[1:-1], light)
    middle = power[:, MIDDLE].mean(1)
    level = np.array([np.quantile(middle[which == i], 0.3) for i in range(max(len(edges) - 1, 1))])
    if not np.any(level > 0):
        raise ValueError("the calm patches show no noise")
    # where nothing varies at all there is no noise to compare with
    level = np.where(level > 0, level, level[level > 0].min())
    power /= level[which, None]
    order = np.argsort(power[:, SORTS].mean(1))
    groups = np.split(order, [int(share * len(order)) for share in SORTED])
    return np.stack([power[group].mean(0) for group in groups]).astype(np.float64)


def _power_of_lag(y: int, x: int) -> np.ndarray:
    """Power that each wave has of noise of which pixels at this distance alone have product 1."""
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    apart = (row[:, None] - row == y) & (column[:, None] - column == x)
    return power_of((apart | apart.T).astype(float))
