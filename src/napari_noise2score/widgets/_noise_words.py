"""A noise model in words, for people who do not read its text form."""

from __future__ import annotations

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.parse import parse_noise
from ..noise.registry import forms


def in_words(text: str) -> str:
    """Return a noise model in words, with its numbers; an incomplete text is returned as it is.

    Parameters
    ----------
    text : str
        The text form.

    Examples
    --------
    >>> in_words("poisson(gain=1.95, offset=99.5) + gaussian(sigma=2.9)")
    'Photon counting (Poisson): gain 1.95, offset 99.5, read noise 2.9'
    >>> in_words("gaussian(sigma=25) @ A")
    'The same everywhere (Gaussian): sigma 25, correlated between pixels'
    >>> in_words("gaussian(sigma=25) + rows(sigma=4)")
    'The same everywhere (Gaussian): sigma 25, offsets of rows (4) undone'
    """
    try:
        return " ; ".join(_describe(parse_noise(one)) for one in text.split(";"))
    except UserError:
        return text


def _describe(noise: NoiseModel) -> str:
    base, kernel, read = noise.components
    values = base.values
    labels = {
        form.label: {p.name: p.label for p in form.parameters}
        for family, form in forms()
        if isinstance(base, family)
    }
    fitting = [label for label, names in labels.items() if set(names) == set(values)]
    label = next(iter(fitting or labels), base.name)
    name, _, cause = label.partition(": ")
    title = f"{cause[:1].upper()}{cause[1:]} ({name})" if cause else name
    known = labels.get(label, {})
    defaults = {p.name: p.default for p in base.parameters()}
    facts = [
        f"{_lower(known.get(key, key))} {value:.3g}" if isinstance(value, float | int) else str(key)
        for key, value in values.items()
        if value != defaults.get(key)
    ]
    facts += [f"read noise {read:.3g}"] if read else []
    facts += ["correlated between pixels"] if kernel is not None else []
    for correction in noise.corrections:
        facts += [f"calibrated by {' and '.join(correction.maps)}"] if correction.maps else []
        facts += [
            f"offsets of {name} ({strength:.3g}) undone"
            for name, strength in (("rows", correction.rows), ("columns", correction.columns))
            if strength
        ]
    return f"{title}: {', '.join(facts)}" if facts else title


def _lower(label: str) -> str:
    return label[:1].lower() + label[1:]
