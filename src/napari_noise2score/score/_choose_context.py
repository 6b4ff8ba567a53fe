"""Choose the neighbours that a network sees: by the axes of the images, their noise and change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..image.axes import Layout
from ..noise.kernel import Kernel
from ._neighbour_correlation import neighbour_change, neighbour_correlations
from .context import CONTEXT_AXES, NAMES, NO_CONTEXT, Context

# of the noise of neighbours, above which it is not independent
MAX_CORRELATION = 0.1
# Change from plane to plane, in units of the variance of the noise, up to which `auto` uses the
# neighbours. Measured, see decision 58.
MAX_CHANGE = 0.35
DEFAULT_REACH = 1


def choose_context(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    kernel: Kernel | None,
    choice: str,
    reach: int | None,
) -> tuple[Context, dict[str, Any]]:
    """Return the neighbours that a network is to see, and notes on why.

    Parameters
    ----------
    arrays, layouts, kernel
        Images, their layouts, and the correlation of their noise between pixels.
    choice : str
        One of `CHOICES`.
    reach : int or None
        Number of neighbours on each side; None for `DEFAULT_REACH`.

    Returns
    -------
    context : Context
    notes : dict
        For the provenance of the model: ``"context change"``, the change from plane to plane along
        each axis in units of the variance of the noise, if it was measured, and
        ``"context refused"``, why neighbours are not used, in words.

    Raises
    ------
    UserError
        If the images have no neighbours along a requested axis, or the noise of all neighbours
        within reach is correlated.
    """
    if choice == "none":
        return NO_CONTEXT, {}
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
    changes: dict[str, float] = {}
    if choice == "auto":
        for axis, distance in list(first.items()):
            change = neighbour_change(arrays, layouts, kernel, axis, distance)
            if change is not None:
                changes[axis] = round(change, 3)
            if change is None or change > MAX_CHANGE:
                del first[axis]
    offsets = (Context.around(a, reach or DEFAULT_REACH, at).offsets for a, at in first.items())
    notes: dict[str, Any] = {"context change": changes} if changes else {}
    if reasons:
        notes["context refused"] = " ".join(reasons)
    return Context(sum(offsets, ())), notes


def _length(where: Layout, axis: str) -> int:
    """Return the size of an image along a looped axis, 0 if there is none."""
    return where.shape[where.axes.index(axis)] if axis in where.loop else 0
