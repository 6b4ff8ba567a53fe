"""Read calibration maps and the offsets of rows and columns from the text of a noise model."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import UserError, quoted
from .calibration_map import CalibrationMap
from .correction import LINE_NAMES, Correction
from .parameter import format_number, round_to_four_digits

_QUOTED = r"""\"[^"]*"|'[^']*'"""
_MAP = re.compile(rf"(\w+)\s*=\s*map\s*\(((?:{_QUOTED}|[^()\"'])*)\)", re.IGNORECASE)
_TERM = re.compile(rf"\s*(rows|columns|pattern)\s*\(((?:{_QUOTED}|[^()\"'])*)\)\s*", re.IGNORECASE)
_ARGUMENT = re.compile(rf"(?:{_QUOTED}|[^,])+")
_BRACKETS = {"(": 1, ")": -1, "[": 1, "]": -1}


class Separated(NamedTuple):
    """The text of a noise model without its correction, and the correction."""

    text: str
    correction: Correction


def separated(text: str) -> Separated:
    """Separate the text of a noise model from what is undone before.

    Parameters
    ----------
    text : str
        The text of a noise model of one channel.

    Returns
    -------
    Separated
        Each map is replaced in the text by its typical value.

    Raises
    ------
    UserError
        If a map cannot be read, or a term is not understood.

    Examples
    --------
    >>> found = separated("gaussian(sigma=10) + rows(sigma=4)")
    >>> found.text.strip(), found.correction.rows
    ('gaussian(sigma=10)', 4.0)
    """
    terms = _split_terms(text)
    found: dict[str, Any] = {}
    left = []
    for term in terms:
        if (match := _TERM.fullmatch(term)) is None:
            left.append(term)
            continue
        name = match[1].lower()
        if name in found:
            raise UserError(f"noise {quoted(text)}: {name} is given twice")
        found[name] = _value_of_term(name, match[2], text)
    for number, term in enumerate(left):
        left[number] = _without_maps(term, number > 0, found, text)
    plain = "+".join(left)
    correction = Correction(**found)
    if correction.gain is not None and correction.offset is None:
        pivot = re.search(r"\boffset\s*=\s*([^,()\s]+)", plain)
        correction = replace(correction, pivot=float(pivot[1]) if pivot else 0.0)
    return Separated(plain, correction)


def _without_maps(term: str, is_read_noise: bool, found: dict[str, Any], text: str) -> str:
    """Return a term with its maps replaced by their typical values, and collect the maps."""

    def typical(match: re.Match[str]) -> str:
        name = match[1].lower()
        key = "read_noise" if is_read_noise and name == "sigma" else name
        if key not in ("gain", "offset", "sigma", "read_noise"):
            raise UserError(
                f"noise {quoted(text)}: {name} cannot be a map; gain, offset and sigma can"
            )
        values, value = _map_of(match[2], text)
        found[key] = values
        if value is None:
            own = values.root_mean_square if key == "read_noise" else values.median
            value = round_to_four_digits(own)
        return f"{match[1]}={format_number(value)}"

    plain = _MAP.sub(typical, term)
    if "sigma" in found and ("gain" in found or "offset" in found):
        raise UserError(
            f"noise {quoted(text)}: a map of the sigma of a family does not go with maps of gain "
            "or offset; read noise is written as + gaussian(sigma=map(...))"
        )
    return plain


def _value_of_term(name: str, inside: str, text: str) -> Any:
    """Return the value of ``rows``, ``columns`` or ``pattern``."""
    if name in LINE_NAMES:
        key, _, number = inside.partition("=")
        try:
            if key.strip() != "sigma":
                raise ValueError
            value = float(number)
        except ValueError:
            raise UserError(
                f"noise {quoted(text)}: write {name}(sigma=4), the standard deviation of the "
                f"offsets of {name} in grey levels"
            ) from None
        if not 0 < value < float("inf"):
            raise UserError(f"{name}: sigma must be a number above 0, not {value:g}")
        return value
    key, _, rest = inside.partition("=")
    if key.strip() != "file":
        raise UserError(f"noise {quoted(text)}: write pattern(file=dark.tif), a dark frame")
    return _map_of(rest, text)[0]


def _map_of(inside: str, text: str) -> tuple[CalibrationMap, float | None]:
    """Return the map between the brackets of ``map(...)``, and its typical value if it is given."""
    first, *rest = [part.strip() for part in _ARGUMENT.findall(inside)] or [""]
    values: dict[str, float] = {}
    for part in rest:
        name, _, number = (each.strip() for each in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            values = {"": 0.0}
    if not first or set(values) - {"value", "y", "x"} or ("y" in values) != ("x" in values):
        raise UserError(
            f"noise {quoted(text)}: write a map as map(gain.tif), or of a part of the detector as "
            "map(gain.tif, y=0, x=0)"
        )
    file = first[1:-1] if re.fullmatch(_QUOTED, first) else first
    corner = (int(values["y"]), int(values["x"])) if "y" in values else None
    return CalibrationMap.read(file, corner), values.get("value")


def _split_terms(text: str) -> list[str]:
    """Split a text at each plus sign outside brackets and quotes."""
    terms, depth, mark, begin = [], 0, "", 0
    for at, letter in enumerate(text):
        if mark:
            mark = "" if letter == mark else mark
        elif letter in "\"'":
            mark = letter
        elif letter in _BRACKETS:
            depth += _BRACKETS[letter]
        elif letter == "+" and depth == 0:
            terms.append(text[begin:at])
            begin = at + 1
    return [*terms, text[begin:]]
