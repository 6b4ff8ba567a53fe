"""The one spelling of a noise model, the same in Python, the window, the terminal and files."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable

from ..errors import UserError, quoted
from .base import NoiseModel
from .emccd import Emccd
from .empirical import Empirical
from .gaussian import Gaussian
from .kernel import parse_kernel
from .poisson import Poisson
from .rician import Rician
from .speckle import Gamma, Nakagami, Rayleigh
from .tweedie import Tweedie

FAMILIES: dict[str, Callable[..., NoiseModel]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "gamma": Gamma,
    "rayleigh": Rayleigh,
    "nakagami": Nakagami,
    "rician": Rician,
    "tweedie": Tweedie,
    "emccd": Emccd,
    "empirical": Empirical.load,
}

# plain decimal numbers; float() would also take 1_000 and digits of other scripts
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf(?:inity)?)", re.IGNORECASE
)
# characters of a whole noise model; a kernel may be long
MAX_TEXT = 200_000
MAX_NAME_LENGTH = 100

_QUOTED = r"""\"[^"]*"|'[^']*'"""
_CALL = re.compile(rf"\s*([A-Za-z_]\w*)\s*\(((?:{_QUOTED}|[^()\"'])*)\)\s*")
_ARGUMENT = re.compile(rf"(?:{_QUOTED}|[^,])+")

_KERNEL = re.compile(r"@\s*(A\b|kernel\s*\([^()]*\))")


def parse_noise(text: str) -> NoiseModel:
    """Read a noise model from its text.

    Parameters
    ----------
    text : str
        ``family(name=value, ...)``, optionally followed by ``@ A`` (or ``@ kernel([[...]])``)
        and ``+ gaussian(sigma=value)``.
        Space is free, the order is fixed. The name of a file may stand in quotes, and must where
        there are brackets, commas or quotes in it.

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
    if not isinstance(text, str):
        raise UserError(f"a noise model is written as text, not as {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise UserError(f"noise {quoted(text)}: longer than any noise model is")
    first, rest = _call(text, text)
    if rest.startswith("@"):
        kernel = _KERNEL.match(rest)
        if kernel is None:
            raise UserError(f"noise {quoted(text)}: after '@' write A or kernel([[0.1, 0.8, 0.1]])")
        first = first @ parse_kernel(kernel[1])  # type: ignore[operator]
        rest = rest[kernel.end() :].strip()
    if not rest:
        return first
    if not rest.startswith("+"):
        raise UserError(
            f"noise {quoted(text)}: {quoted(rest)} was not understood; after the model only '@ A' "
            "and then '+ gaussian(sigma=...)' may follow"
        )
    read, rest = _call(rest[1:], text)
    if rest or not isinstance(read, Gaussian) or read.growth:
        raise UserError(f"noise {quoted(text)}: only one '+ gaussian(sigma=...)' may be added")
    return first + read  # type: ignore[operator]


def _call(part: str, text: str) -> tuple[NoiseModel, str]:
    """Read one ``family(...)`` and give it with what is left of the text."""
    match = _CALL.match(part)
    if match is None:
        raise UserError(
            f"noise {quoted(text)} was not understood; write it like gaussian(sigma=25) or "
            "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)"
        )
    unknown = f"noise {quoted(text)}: no noise model is called"
    family = _nearest(match[1].lower(), list(FAMILIES), unknown)
    model = FAMILIES[family]
    known = inspect.signature(model).parameters
    values: dict[str, float | str] = {}
    for argument in filter(None, (a.strip() for a in _ARGUMENT.findall(match[2]))):
        name, equals, value = (a.strip() for a in argument.partition("="))
        if not equals:
            raise UserError(
                f"noise {quoted(text)}: write each parameter as name=value, as in {_like(family)}"
            )
        name = _nearest(name, list(known), f"noise {quoted(text)}: {family} has no parameter")
        if name in values:
            raise UserError(f"noise {quoted(text)}: {name} is given twice")
        if known[name].annotation == "str":
            values[name] = value[1:-1] if re.fullmatch(_QUOTED, value) else value
            continue
        if not _NUMBER.fullmatch(value):
            raise UserError(f"noise {quoted(text)}: {name}={quoted(value)} is not a number")
        values[name] = float(value)
    required = {n for n, p in known.items() if p.default is inspect.Parameter.empty}
    if missing := sorted(required - set(values)):
        raise UserError(f"noise {quoted(text)}: {family} needs {missing[0]}, as in {_like(family)}")
    return model(**values), part[match.end() :].strip()


def _nearest(name: str, known: list[str], complaint: str) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name[:MAX_NAME_LENGTH], known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    raise UserError(f"{complaint} {quoted(name)}; {hint}")


def _like(family: str) -> str:
    return {
        "gaussian": "gaussian(sigma=25)",
        "poisson": "poisson(gain=2.1, offset=100)",
        "gamma": "gamma(alpha=26)",
        "rayleigh": "rayleigh(sigma=0.3)",
        "nakagami": "nakagami(m=1)",
        "rician": "rician(sigma=10)",
        "tweedie": "tweedie(power=1.5, dispersion=3)",
        "emccd": "emccd(gain=20, offset=100)",
        "empirical": "empirical(file=noise.npz)",
    }[family]
