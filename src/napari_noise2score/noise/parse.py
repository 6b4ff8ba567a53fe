"""The text form of a noise model, the same in Python, the window, the terminal and files."""

from __future__ import annotations

import difflib
import re
from typing import Any

from ..errors import UserError, quoted
from ._parse_correction import separated
from .base import NoiseModel
from .corrected import Corrected
from .correction import Correction
from .family import Form, NoiseFamily
from .gaussian import Gaussian
from .kernel import parse_kernel
from .per_channel import PerChannel
from .registry import families, family_of_alias, find_family

# plain decimal numbers; float() would also take 1_000 and digits of other scripts
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf(?:inity)?)", re.IGNORECASE
)
# characters of a whole noise model; a kernel can be long
MAX_TEXT_LENGTH = 200_000
MAX_NAME_LENGTH = 100
EXAMPLE = "gaussian(sigma=25)"

_QUOTED = r"""\"[^"]*"|'[^']*'"""
_CALL = re.compile(rf"\s*([A-Za-z_]\w*)\s*\(((?:{_QUOTED}|[^()\"'])*)\)\s*")
_ARGUMENT = re.compile(rf"(?:{_QUOTED}|[^,])+")
# a noise model up to the next ';' that is not in quotes
_ONE_MODEL = re.compile(rf"(?:{_QUOTED}|[^;])*")

_KERNEL = re.compile(r"@\s*(A\b|(?:noise_)?kernel\s*\([^()]*\))")


def parse_noise(text: str) -> NoiseModel:
    """Read a noise model from its text form.

    Parameters
    ----------
    text : str
        ``family(name=value, ...)``, optionally followed by ``@ A`` (or ``@ kernel([[...]])``)
        and ``+ gaussian(sigma=value)``. Several of them, separated by ``;``, are those of the
        channels in their order. A gain, an offset or a sigma can be ``map(FILE)``, and
        ``+ rows(sigma=value)``, ``+ columns(sigma=value)`` and ``+ pattern(file=FILE)`` may
        follow, see `Correction`.
        Spaces are ignored; the order is fixed. The name of a file can be in quotes, and must be
        if there are brackets, commas or quotes in it.

    Returns
    -------
    NoiseModel
        Its ``str()`` is the same text.

    Raises
    ------
    UserError
        If a name is unknown (the closest known name is suggested), a parameter is missing or
        out of range, or the text is not a noise model.

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
    if len(text) > MAX_TEXT_LENGTH:
        raise UserError(f"noise {quoted(text)}: too long for a noise model")
    each = _split(text)
    if len(each) == 1:
        return _parse_model(text)
    if not all(part.strip() for part in each):
        raise UserError(f"noise {quoted(text)}: write one noise model on each side of ';'")
    return PerChannel(tuple(map(_parse_model, each)))


def parse_correction(text: str) -> tuple[Correction, ...]:
    """Read what is undone before the score is learned.

    Parameters
    ----------
    text : str
        A noise model with maps or ``rows``, ``columns`` and ``pattern``, or these terms alone; for
        several channels separated by ``;``.

    Returns
    -------
    tuple of Correction
        One for all channels, or one for each; empty if the text is.

    Raises
    ------
    UserError
        If the text is not understood, or corrects nothing.

    Examples
    --------
    >>> parse_correction("rows(sigma=4)")[0].rows
    4.0
    """
    if not text.strip():
        return ()
    each = []
    for part in _split(text):
        plain, correction = separated(part)
        if plain.strip():
            _parse_plain(plain)
        each.append(correction)
    if not any(each):
        raise UserError(
            f"correction {quoted(text)}: nothing is corrected; write rows(sigma=4), "
            "columns(sigma=4), pattern(file=dark.tif), or a noise model with maps, as in "
            "poisson(gain=map(gain.tif), offset=map(offset.tif))"
        )
    return tuple(each)


def _split(text: str) -> list[str]:
    """Return the texts of the noise models between semicolons."""
    each: list[str] = []
    end = -1
    while end < len(text):
        match = _ONE_MODEL.match(text, end + 1)
        assert match is not None  # it may be empty
        each.append(match[0])
        end = match.end()
    return each


def _parse_model(text: str) -> NoiseModel:
    """Read the noise model of one channel."""
    plain, correction = separated(text)
    if not correction:
        return _parse_plain(text)
    if not plain.strip():
        raise UserError(f"noise {quoted(text)}: name the noise as well, as in {EXAMPLE} + {text}")
    return Corrected(_parse_plain(plain), correction)


def _parse_plain(text: str) -> NoiseModel:
    """Read the noise model of one channel, without what is undone before."""
    model: NoiseModel
    model, rest = _parse_call(text, text)
    if rest.startswith("@"):
        kernel = _KERNEL.match(rest)
        if kernel is None:
            raise UserError(f"noise {quoted(text)}: after '@' write A or kernel([[0.1, 0.8, 0.1]])")
        model = model @ parse_kernel(kernel[1])
        rest = rest[kernel.end() :].strip()
    if not rest:
        return model
    if not rest.startswith("+"):
        raise UserError(
            f"noise {quoted(text)}: {quoted(rest)} was not understood; after the model only '@ A', "
            "'+ gaussian(sigma=...)', '+ rows(sigma=...)' and the like may follow"
        )
    read, rest = _parse_call(rest[1:], text)
    if rest or not isinstance(read, Gaussian) or not read.constant_variance:
        raise UserError(f"noise {quoted(text)}: only one '+ gaussian(sigma=...)' may be added")
    return model + read


def _parse_call(part: str, text: str) -> tuple[NoiseFamily, str]:
    """Read one ``family(...)`` and return it with the rest of the text."""
    match = _CALL.match(part)
    if match is None:
        raise UserError(
            f"noise {quoted(text)} was not understood; write it like gaussian(sigma=25) or "
            "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)"
        )
    family = _family(match[1], text)
    parameters = {p.name: p for p in family.parameters()}
    values: dict[str, Any] = {}
    for argument in filter(None, (a.strip() for a in _ARGUMENT.findall(match[2]))):
        name, equals, value = (a.strip() for a in argument.partition("="))
        if not equals:
            raise UserError(
                f"noise {quoted(text)}: write each parameter as name=value, as in "
                f"{family.forms[0].example}"
            )
        complaint = f"noise {quoted(text)}: {family.name} has no parameter"
        name = _closest(name, list(parameters), complaint)
        if name in values:
            raise UserError(f"noise {quoted(text)}: {name} is given twice")
        if parameters[name].is_file:
            values[name] = value[1:-1] if re.fullmatch(_QUOTED, value) else value
            continue
        if not _NUMBER.fullmatch(value):
            raise UserError(f"noise {quoted(text)}: {name}={quoted(value)} is not a number")
        values[name] = float(value)
    _check_complete(family, values, text)
    return family.from_values(values), part[match.end() :].strip()


def _family(name: str, text: str) -> type[NoiseFamily]:
    """Return the class of a family by its name."""
    family = find_family(name.lower())
    if family is not None:
        return family
    complaint = f"noise {quoted(text)}: no noise model is called"
    if (meant := family_of_alias(name[:MAX_NAME_LENGTH])) is not None:
        raise UserError(f"{complaint} {quoted(name.lower())}; did you mean '{meant.name}'?")
    closest = _closest(name.lower(), [known.name for known in families()], complaint)
    raise AssertionError(closest)  # find_family knows all names


def _check_complete(family: type[NoiseFamily], values: dict[str, Any], text: str) -> None:
    """Raise a `UserError` if a parameter is missing from a family that has only one form."""
    if len(family.forms) > 1:
        return  # the class itself says which parameters belong together
    form: Form = family.forms[0]
    required = {p.name for p in form.parameters if p.default is None}
    if missing := sorted(required - set(values)):
        raise UserError(
            f"noise {quoted(text)}: {family.name} needs {missing[0]}, as in {form.example}"
        )


def _closest(name: str, known: list[str], complaint: str) -> str:
    """Return a name that is known, or raise a `UserError` that suggests the closest one."""
    if name in known:
        return name
    near = difflib.get_close_matches(name[:MAX_NAME_LENGTH], known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    raise UserError(f"{complaint} {quoted(name)}; {hint}")
