"""Find the contexts that may be tried for images: their axes, and frames of independent noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..image.axes import Layout
from ..noise.kernel import Kernel
from ._neighbour_correlation import neighbour_correlations
from ._trials import Candidates
from .context import CONTEXT_AXES, NAMES

# of the noise of neighbours, above which it is not independent
MAX_CORRELATION = 0.1


def find_candidates(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    kernel: Kernel | None,
    choice: str,
    reach: int | None,
) -> tuple[Candidates, dict[str, Any]]:
    """Return the contexts that may be tried, and notes on those that may not.

    Parameters
    ----------
    arrays, layouts, kernel
        Images, their layouts, and the correlation of their noise between pixels.
    choice : str
        One of `CHOICES`.
    reach : int or None
        Number of neighbours on each side; None to choose it.

    Returns
    -------
    candidates : Candidates
    notes : dict
        ``"context refused"``: why neighbours are not used, in words; otherwise empty.

    Raises
    ------
    UserError
        If the images have no neighbours along a requested axis, or the noise of all neighbours
        within reach is correlated.
    """
    if choice == "none":
        return Candidates("", None, False, {}), {}
    asked = CONTEXT_AXES if choice == "auto" else choice
    # neighbours that only some images have are hidden in the others
    fits = all if choice == "auto" else any
    axes = "".join(a for a in asked if fits(_length(where, a) > 1 for where in layouts))
    if choice != "auto" and axes != asked:
        missing = next(a for a in asked if a not in axes)
        reason = f"axis {missing}" if any(missing in w.axes for w in layouts) else missing
        if missing == "Z" and any("Z" in where.space for where in layouts):
            raise UserError("context Z: a 3-D network sees the neighbouring planes already")
        raise UserError(
            f"context {choice}: the images have no neighbouring {NAMES[missing]}s (no {reason} of "
            "two or more); choose auto or none"
        )
    first: dict[str, int] = {}
    reasons = []
    for axis in axes:
        found, structure = neighbour_correlations(arrays, layouts, kernel, axis)
        limit = structure + MAX_CORRELATION
        free = next((lag for lag, value in enumerate(found, 1) if value <= limit), None)
        if free == 1 or not found:
            first[axis] = 1
            continue
        sentence = (
            f"The noise of neighbouring {NAMES[axis]}s is correlated ({found[0]:.2f}), as after "
            "averaging or interpolation"
        )
        if free is None:
            if choice != "auto":
                raise UserError(
                    f"{sentence[0].lower()}{sentence[1:]}: they cannot be context; choose none"
                )
            reasons.append(f"{sentence}: they are not used.")
        else:
            first[axis] = free
            reasons.append(f"{sentence}: those nearer than {free} are left out.")
    usable = "".join(a for a in axes if a in first)
    notes = {"context refused": " ".join(reasons)} if reasons else {}
    return Candidates(usable, reach, choice == "auto", first), notes


def _length(where: Layout, axis: str) -> int:
    """Return the size of an image along a looped axis, 0 if there is none."""
    return where.shape[where.axes.index(axis)] if axis in where.loop else 0
