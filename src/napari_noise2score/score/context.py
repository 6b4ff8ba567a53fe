"""Context: the neighbouring time points and planes that a network sees beside the plane itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError, quoted
from ..image.axes import Layout

CONTEXT_AXES = "TZ"
MAX_REACH = 7
MAX_NEIGHBOURS = 32
CHOICES = ("auto", "none", "T", "Z", "TZ")
NAMES = {"T": "time point", "Z": "plane"}


@dataclass(frozen=True)
class Context:
    """The neighbours that a network sees beside a plane or volume, as offsets along looped axes.

    The score of the plane given its neighbours satisfies the same equation ``s = f(x, y)`` as
    without them, because the noise of the plane is independent of its neighbours. This also holds
    for means of neighbours: along each axis, those 1, 2 to 3 and 4 to 7 away on either side are
    seen as their mean, of which the noise is low, so that a network soon learns to use it.

    Attributes
    ----------
    offsets : tuple of (str, int)
        Axis and offset of each neighbour, such as ``(("T", -1), ("T", 1))``.

    Raises
    ------
    ValueError
        If an offset is 0, repeated, or not along T or Z.

    Examples
    --------
    >>> context = Context.around("T", 1)
    >>> context.offsets, str(context)
    ((('T', -1), ('T', 1)), 'the 2 neighbouring time points')
    """

    offsets: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        possible = all(
            axis in CONTEXT_AXES and len(axis) == 1 and type(at) is int and at
            for axis, at in self.offsets
        )
        if not possible or len(set(self.offsets)) < len(self.offsets):
            raise ValueError(f"not a context: {self.offsets!r:.80}")
        if len(self.offsets) > MAX_NEIGHBOURS:
            raise ValueError(f"{len(self.offsets)} neighbours, at most {MAX_NEIGHBOURS}")

    @staticmethod
    def around(axes: str, reach: int, first: int = 1) -> Context:
        """Return the context of neighbours on both sides along axes.

        Parameters
        ----------
        axes : str
            ``"T"``, ``"Z"`` or ``"TZ"``; ``""`` for no context.
        reach : int
            Number of neighbours on each side.
        first : int
            Distance of the nearest.
        """
        steps = range(first, first + reach)
        return Context(tuple((a, side * by) for a in axes for by in steps for side in (-1, 1)))

    @property
    def axes(self) -> str:
        """The axes along which there are neighbours."""
        return "".join(dict.fromkeys(axis for axis, _ in self.offsets))

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the offsets that are seen together as their mean.

        Examples
        --------
        >>> Context((("T", -1), ("T", 1), ("T", 2), ("T", 3))).groups
        ((0, 1), (2, 3))
        """
        found: dict[tuple[str, int], list[int]] = {}
        for number, (axis, by) in enumerate(self.offsets):
            found.setdefault((axis, abs(by).bit_length()), []).append(number)
        return tuple(map(tuple, found.values()))

    def channels(self, image_channels: int) -> int:
        """Return the number of input channels that the context needs, see `context_input`."""
        return 2 * image_channels * len(self.groups)

    def __str__(self) -> str:
        counts = {a: sum(axis == a for axis, _ in self.offsets) for a in self.axes}
        named = [f"{n} neighbouring {NAMES[a]}{'s' * (n > 1)}" for a, n in counts.items()]
        return f"the {' and '.join(named)}" if named else "no neighbours"


NO_CONTEXT = Context()


def neighbours_of(
    where: Layout, position: Sequence[int], context: Context
) -> list[tuple[int, ...] | None]:
    """Return the position of each neighbour of a plane or volume.

    Parameters
    ----------
    where : Layout
        Layout of the image.
    position : sequence of int
        Index along each looped axis.
    context : Context
        The context.

    Returns
    -------
    list of (tuple of int or None)
        In place of those beyond an end are those next to the furthest on the other side, so that
        no neighbour is given twice. None if there is no such axis, or it is too short.

    Examples
    --------
    >>> from napari_noise2score.image.axes import layout
    >>> neighbours_of(layout("TYX", (5, 64, 64)), [0], Context.around("T", 1))
    [(2,), (1,)]
    """
    found: list[tuple[int, ...] | None] = []
    for axis, by in context.offsets:
        if axis not in where.loop:
            found.append(None)
            continue
        size, number = where.shape[where.axes.index(axis)], where.loop.index(axis)
        at = position[number] + by
        if not 0 <= at < size:
            distances = [abs(other) for name, other in context.offsets if name == axis]
            on_this_side = size - 1 - position[number] if by > 0 else position[number]
            more = abs(by) - max(on_this_side, min(distances) - 1)
            at = position[number] - (max(distances) + more) * (1 if by > 0 else -1)
        inside = 0 <= at < size
        found.append((*position[:number], at, *position[number + 1 :]) if inside else None)
    return found


def parse_context(context: str, reach: Any) -> tuple[str, int | None]:
    """Check a requested context, and return it as one of `CHOICES` and its reach.

    Raises
    ------
    UserError
        If it is none of `CHOICES`, or the reach is not a whole number from 1 to 7.
    """
    text = str(context).strip()
    choice = text.lower() if text.lower() in CHOICES else "".join(sorted(text.upper()))
    if choice not in CHOICES:
        raise UserError(f"context {quoted(text)}: choose one of {', '.join(CHOICES)}")
    if reach is not None and (
        isinstance(reach, bool) or not isinstance(reach, int) or not 1 <= reach <= MAX_REACH
    ):
        raise UserError(f"reach {quoted(str(reach))}: give a whole number from 1 to {MAX_REACH}")
    return choice, reach


def context_from_json(values: Iterable[Any]) -> Context:
    """Return the context that a model file holds.

    Raises
    ------
    ValueError
        If a value is impossible.
    """
    if not isinstance(values, list):
        raise ValueError("the context is not a list of offsets")
    if not all(isinstance(v, list) and len(v) == 2 and isinstance(v[0], str) for v in values):
        raise ValueError("the context is not a list of axes and offsets")
    return Context(tuple((axis, at) for axis, at in values))
