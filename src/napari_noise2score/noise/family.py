"""Base class of noise families: all that the rest of the program needs to know about one."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..errors import UserError
from ._torch import torch
from .base import Array, Components, NoiseModel
from .fitting import FittedParameters, FromScore
from .parameter import Parameter, format_call, round_to_four_digits

if TYPE_CHECKING:
    from torch import Tensor

    from .correlated import Correlated


@dataclass(frozen=True)
class Form:
    """One way to write a family: its entry in menus and its row in the documentation.

    Attributes
    ----------
    label : str
        The entry in the window's menu.
    parameters : tuple of Parameter
        The parameters that are given, in order.
    example : str
        The text form with typical values.
    use : str
        The kinds of images that have such noise, in a few words.
    density, score : str
        p(y | x) and f(x, y) as formulas, with t = y − offset.
    """

    label: str
    parameters: tuple[Parameter, ...]
    example: str
    use: str
    density: str = ""
    score: str = ""


class NoiseFamily(NoiseModel):
    """A noise model of independent pixels; a new family is a single subclass.

    A subclass is a frozen dataclass whose fields are its parameters. It defines the class
    attributes below, `sample`, `mean`, `variance`, `third_cumulant`, `clean_from_mean`, `score`,
    `solve`, and either `cdf` or `bin_probabilities`. Modules of this package are found
    automatically; another package names its class in the entry point group
    ``napari_noise2score.noise_families``.

    Attributes
    ----------
    name : str
        The name in the text form.
    forms : tuple of Form
        The ways to write it, the usual one first.
    aliases : tuple of str
        Terms that people search for: other names, imaging methods, detectors.
    source : str
        Where the model comes from, with its DOI where there is one.
    position : float
        Sort key in menus and tables: the most common family has the smallest.
    fitted : tuple of FittedParameters
        The sets of parameters that the estimator fits; empty if it does not consider the family.
    from_score : FromScore, optional
        How the parameter is found from a trained score alone, for the families of the papers that
        do so.
    accepts_read_noise : bool
        Whether forms offer read noise on top.
    multiplicative : bool
        Whether the standard deviation is proportional to the signal.
    is_magnitude : bool
        Whether y is the magnitude of a complex number.
    is_counting : bool
        Whether y is made of counted photons or electrons.
    is_discrete : bool
        Whether y can only be the offset plus whole multiples of the gain.
    """

    name: ClassVar[str]
    forms: ClassVar[tuple[Form, ...]]
    aliases: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    position: ClassVar[float] = math.inf
    fitted: ClassVar[tuple[FittedParameters, ...]] = ()
    from_score: ClassVar[FromScore | None] = None
    accepts_read_noise: ClassVar[bool] = True
    multiplicative: ClassVar[bool] = False
    is_magnitude: ClassVar[bool] = False
    is_counting: ClassVar[bool] = False
    is_discrete: ClassVar[bool] = False

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """Return the parameters of all forms, without repetition."""
        return tuple({p.name: p for form in cls.forms for p in form.parameters}.values())

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Make a model from values by parameter name, as the parser reads them."""
        return cls(**values)

    def __post_init__(self) -> None:
        self.check_parameters()

    def check_parameters(self) -> None:
        """Raise a `UserError` if a given parameter is not a number or is out of range."""
        for parameter in self.parameters():
            value = getattr(self, parameter.name)
            if value is not None or parameter in self.forms[0].parameters:
                parameter.check(self.name, value)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that are given, by name, defaults included."""
        named = {p.name: getattr(self, p.name) for p in self.parameters()}
        return {name: value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        defaults = {p.name: p.default for p in self.parameters()}
        given = {k: v for k, v in self.values.items() if v != defaults[k]}
        return format_call(self.name, given)

    @property
    def components(self) -> Components:
        """The family itself as the base, without correlation and read noise."""
        return Components(self)

    @property
    def lowest(self) -> float:
        """The smallest x for which the model is defined, in grey levels."""
        return 0.0

    @property
    def offset(self) -> float:
        """The grey level without signal, which y contains and x does not."""
        return 0.0

    @property
    def posterior_score_variance(self) -> float:
        """See `NoiseModel.posterior_score_variance`; 0 for most families."""
        return 0.0

    @property
    def additive(self) -> bool:
        """Whether the noise is Gaussian and added to the image."""
        return False

    @property
    def signed(self) -> bool:
        """Whether y can be below 0."""
        return self.offset < 0

    @property
    def constant_variance(self) -> bool:
        """Whether Var[y | x] is the same for every x."""
        return False

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the text form names."""
        return ()

    @property
    def content_digest(self) -> str:
        """A digest of the content of these files; empty if the text form is complete."""
        return ""

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return the third central moment of y given x."""
        raise NotImplementedError

    def cumulants(self, mean: Array) -> tuple[Array, Array]:
        """Return variance and third central moment of y as functions of the mean of y.

        Parameters
        ----------
        mean : ndarray
            E[y | x] in grey levels, of any shape.

        Returns
        -------
        variance, third : ndarray
            In grey levels squared and cubed, of the same shape.
        """
        x = self.clean_from_mean(torch.from_numpy(np.asarray(mean, dtype=np.float64)))
        return self.variance(x).numpy(), self.third_cumulant(x).numpy()

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x); y and x broadcast."""
        raise NotImplementedError

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        return self.cdf(edges[None, :], x[:, None]).diff(dim=1).clamp(min=0)

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Return a representative y of each bin, shape ``(bins,)``."""
        return (edges[1:] + edges[:-1]) / 2

    def with_values(self, **changed: float) -> Self:
        """Return the same family with some parameters changed.

        Raises
        ------
        UserError
            If one would be out of range.
        """
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def scaled(self, factor: float) -> Self:
        """Return the model with its variance multiplied by a factor above 0."""
        values = self.values
        changed = {}
        for p in self.parameters():
            if p.name in values and p.variance_power:
                value = round_to_four_digits(_multiply(values[p.name], factor, p.variance_power))
                changed[p.name] = min(max(p.low, value), p.high)
        if not changed:
            raise UserError(f"no parameter of {self} sets the strength of the noise")
        return self.with_values(**changed)

    def in_unit(self, unit: float) -> Self:
        """Return the model of images whose grey levels were multiplied by a number above 0."""
        changed = {
            name: round_to_four_digits(_multiply(value, unit, self.unit_power(name)))
            for name, value in self.values.items()
            if self.unit_power(name)
        }
        return self.with_values(**changed)

    def unit_power(self, name: str) -> float:
        """Return the power of the unit of grey levels that a parameter is measured in.

        It is 1 for the read noise and everything else that is not a parameter of the family.
        """
        return next((p.unit_power for p in self.parameters() if p.name == name), 1.0)

    def __matmul__(self, other: Any) -> Correlated:
        from .correlated import Correlated
        from .kernel import Kernel

        return Correlated(self, other) if isinstance(other, Kernel) else NotImplemented


def _multiply(value: float, factor: float, power: float) -> float:
    """Return ``value * factor ** power``, exactly rounded for the usual powers."""
    if power == 0.5:
        return value * math.sqrt(factor)
    if power == -1:
        return value / factor
    return value * float(factor**power)
