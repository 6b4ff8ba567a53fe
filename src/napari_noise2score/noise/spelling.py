"""The one spelling of a noise model, the same in Python, the window, the terminal and files."""

from __future__ import annotations

import dataclasses
import difflib
import re

from ..errors import UserError
from .base import NoiseModel
from .gaussian import Gaussian
from .poisson import Poisson
from .speckle import Gamma, Rayleigh

FAMILIES: dict[str, type] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "gamma": Gamma,
    "rayleigh": Rayleigh,
}

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\(([^()]*)\)\s*")


def parse_noise(text: str) -> NoiseModel:
    """Read a noise model from its text.

    Parameters
    ----------
    text : str
        ``family(name=value, ...)``, optionally followed by ``+ gaussian(sigma=value)``.
        Space is free, the order is fixed.

    Returns
    -------
    NoiseModel
        Its ``str()`` is the text again.

    Raises
    ------
    UserError
        If a name is not known (the nearest that is will be named), a parameter is missing or
        out of range, or the text is no noise model.

    Examples
    --------
    >>> parse_noise("poisson(gain=2.1,offset=100)+gaussian(sigma=3.2)")
    Sum(base=Poisson(gain=2.1, offset=100.0), read=Gaussian(sigma=3.2))
    >>> parse_noise("poison(gain=5)")
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: noise 'poison(gain=5)': no noise model is called 'poison'; did you mean 'poisson'?
    """  # noqa: E501
    first, rest = _call(text, text)
    if not rest:
        return first
    if not rest.startswith("+"):
        raise UserError(
            f"noise '{text}': '{rest}' was not understood; "
            "after the model only '+ gaussian(sigma=...)' may follow"
        )
    read, rest = _call(rest[1:], text)
    if rest or not isinstance(read, Gaussian) or read.growth:
        raise UserError(f"noise '{text}': only one '+ gaussian(sigma=...)' may be added")
    return first + read  # type: ignore[operator]


def _call(part: str, text: str) -> tuple[NoiseModel, str]:
    """Read one ``family(...)`` and give it with what is left of the text."""
    match = _CALL.match(part)
    if match is None:
        raise UserError(
            f"noise '{text}' was not understood; write it like gaussian(sigma=25) or "
            "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)"
        )
    family = _nearest(match[1].lower(), list(FAMILIES), f"noise '{text}': no noise model is called")
    model = FAMILIES[family]
    fields = {f.name: f for f in dataclasses.fields(model)}
    values: dict[str, float] = {}
    for argument in filter(None, (a.strip() for a in match[2].split(","))):
        name, equals, number = (a.strip() for a in argument.partition("="))
        if not equals:
            raise UserError(
                f"noise '{text}': write each parameter as name=value, as in {_like(family)}"
            )
        name = _nearest(name, list(fields), f"noise '{text}': {family} has no parameter")
        if name in values:
            raise UserError(f"noise '{text}': {name} is given twice")
        try:
            values[name] = float(number)
        except ValueError:
            raise UserError(f"noise '{text}': {name}='{number}' is not a number") from None
    required = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise UserError(f"noise '{text}': {family} needs {missing[0]}, as in {_like(family)}")
    return model(**values), part[match.end() :].strip()


def _nearest(name: str, known: list[str], complaint: str) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    raise UserError(f"{complaint} '{name}'; {hint}")


def _like(family: str) -> str:
    return {
        "gaussian": "gaussian(sigma=25)",
        "poisson": "poisson(gain=2.1, offset=100)",
        "gamma": "gamma(alpha=26)",
        "rayleigh": "rayleigh(sigma=0.3)",
    }[family]
