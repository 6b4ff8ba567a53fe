"""Tables of the noise families, for the documentation and the command line."""

from __future__ import annotations

from .registry import forms

# what can follow a family, and a typical composition
COMPOSITIONS = (
    ("… @ A", "any of these, correlated between neighbouring pixels"),
    (
        "… @ noise_kernel([[0.3, 0.9, 0.3]])",
        "any of these, correlated without the image being blurred; need not be invertible",
    ),
    ("… + gaussian(sigma=10)", "any of these, with read noise on top"),
    ("poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)", "a camera"),
    ("… + rows(sigma=4)", "random offsets of rows (or columns), undone before anything else"),
    (
        "poisson(gain=map(gain.tif), offset=map(offset.tif))",
        "calibrated per pixel: a gain, an offset or a sigma can be a map",
    ),
    ("… ; …", "one noise model for each channel, in order"),
)


def summary_table() -> str:
    """Return a Markdown table of all noise models: text form and use.

    Examples
    --------
    >>> print(summary_table().splitlines()[4])
    | `gaussian(a=0.098, b=25)` | standard deviation a x + b, which grows with the signal |
    """
    rows = [(form.example, form.use) for _, form in forms()]
    lines = [f"| `{example}` | {use} |" for example, use in (*rows, *COMPOSITIONS)]
    return "\n".join(["| text | noise |", "|---|---|", *lines])


def equation_table() -> str:
    """Return a Markdown table of all families: text form, p(y | x), f(x, y), use and source."""
    lines = [
        f"| `{form.example}` | {_cell(form.density)} | {_cell(form.score)} | {_cell(form.use)} "
        f"| {_cell(family.source)} |"
        for family, form in forms()
    ]
    head = ["| text | p(y \\| x) | f(x, y) | for | source |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines])


def parameter_table() -> str:
    """Return a Markdown table of all parameters: meaning, unit, range and default.

    Examples
    --------
    >>> print(parameter_table().splitlines()[2][:44])
    | `poisson` | `gain` | Grey levels that one
    """
    head = [
        "| family | parameter | meaning | unit | value | default |",
        "|---|---|---|---|---|---|",
    ]
    lines = []
    for family, form in forms():
        for p in form.parameters:
            default = "–" if p.default is None else f"{p.default:g}"
            value = "the name of a file" if p.is_file else p.domain
            cells = (f"`{family.name}`", f"`{p.name}`", p.help, p.unit or "–", value, default)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join([*head, *lines])


def help_text() -> str:
    """Return one line of text forms of all families, for the help of the command line.

    Examples
    --------
    >>> help_text()[:60]
    'poisson(gain=2.1, offset=100), gaussian(sigma=25), gaussian('
    """
    return ", ".join(form.example for _, form in forms())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
