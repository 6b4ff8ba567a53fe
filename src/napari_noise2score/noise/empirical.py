"""Empirical noise: histograms of y at known clean levels, as measured."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from ..errors import UserError
from ._empirical_distribution import HistogramDistribution
from ._empirical_file import check_name, format_name, read_arrays, write_arrays
from ._empirical_measure import (
    Density,
    Sampler,
    histograms_of_density,
    histograms_of_pairs,
    histograms_of_sampler,
    is_rising,
    midpoints,
)
from .base import Array
from .family import Form
from .parameter import MAX_GREY_LEVEL, Parameter

if TYPE_CHECKING:
    pass

# weights of bins: their sums and ratios stay finite
MAX_COUNT = 1e30

FILE = Parameter("file", "File", "A file written by Empirical.save, NAME.npz.", is_file=True)


@dataclass(frozen=True, eq=False)
class Empirical(HistogramDistribution):
    """Any pixelwise noise, as histograms of y at a rising set of clean levels x.

    ``y ~ h_k`` at ``x = levels[k]``; between two levels each quantile of y is interpolated
    linearly, so that a distribution shifts into the next instead of fading into it. Beyond the last
    level it keeps its shape and moves with x.

    - p(y | x): the histograms, uniform within a bin
    - f(x, y): differences of their logarithms, over a quarter of a standard deviation to each side

    Parameters
    ----------
    levels : array of shape (L,)
        Clean levels x in grey levels, rising, at least 2. The lowest one is the smallest x that is
        returned.
    edges : array of shape (B + 1,)
        Edges of the bins of y in grey levels, rising.
    counts : array of shape (L, B)
        Weight of each bin at each level, 0 or above; each level is scaled to a sum of 1. The mean
        must rise with the level.
    file : str
        Where the model is saved; see `save`.

    Raises
    ------
    UserError
        If the arrays are not as above.

    Notes
    -----
    Create one with `from_sampler`, `from_density` or `from_pairs`. The text of a model names its
    file, ``empirical(file=NAME.npz)``. A model that was never saved prints as
    ``empirical(unsaved)``, which cannot be read back: save it first. Two models with equal contents
    are equal.

    Examples
    --------
    >>> import torch
    >>> def density(x, y):
    ...     return np.exp(-(((y - x) / 10) ** 2) / 2)
    >>> model = Empirical.from_density(density, np.linspace(0, 255, 64), np.arange(-60, 320, 2))
    >>> print(model)
    empirical(unsaved)
    >>> round(float(model.mean(torch.tensor(100.0))), 2)
    100.0
    """

    levels: Array
    edges: Array
    counts: Array
    file: str | None = None

    name: ClassVar[str] = "empirical"
    aliases: ClassVar[tuple[str, ...]] = ("histogram", "measured", "calibrated", "simulated")
    source: ClassVar[str] = "measured"
    position: ClassVar[float] = 9
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Empirical: measured histograms",
            (FILE,),
            "empirical(file=noise.npz)",
            "noise measured from data, or given as a Python function",
            "histograms",
            "differences of their logarithms",
        ),
    )

    def __post_init__(self) -> None:
        try:
            levels, edges, counts = (
                np.array(values, dtype=np.float64)
                for values in (self.levels, self.edges, self.counts)
            )
        except (TypeError, ValueError, OverflowError):
            raise UserError("empirical: levels, edges and counts must be numbers") from None
        if levels.ndim != 1 or len(levels) < 2 or not is_rising(levels):
            raise UserError("empirical: levels must be a rising row of at least 2 numbers")
        if edges.ndim != 1 or len(edges) < 3 or not is_rising(edges):
            raise UserError("empirical: edges must be a rising row of at least 3 numbers")
        if max(np.abs(levels).max(), np.abs(edges).max()) > MAX_GREY_LEVEL:
            raise UserError(f"empirical: levels and edges must be within ±{MAX_GREY_LEVEL:g}")
        shape = (len(levels), len(edges) - 1)
        if counts.shape != shape:
            raise UserError(f"empirical: counts must have shape {shape}, not {counts.shape}")
        if not np.isfinite(counts).all() or counts.min() < 0 or counts.max(1).min() <= 0:
            raise UserError("empirical: counts must be 0 or above, and not all 0 at any level")
        if counts.max() > MAX_COUNT or counts.max(1).min() < 1 / MAX_COUNT:
            raise UserError(
                f"empirical: counts must be between {1 / MAX_COUNT:g} and {MAX_COUNT:g}"
            )
        if not is_rising(counts @ midpoints(edges) / counts.sum(1)):
            raise UserError("empirical: the mean of y must increase from each level to the next")
        for name, values in (("levels", levels), ("edges", edges), ("counts", counts)):
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @classmethod
    def from_sampler(
        cls, sampler: Sampler, levels: Array, samples: int = 100_000, seed: int = 0
    ) -> Empirical:
        """Measure noise that can be simulated.

        The bins are as fine as the noise needs: their edges are quantiles of y at every level, at
        most half a standard deviation of a normal distribution apart, and shared by all levels.
        Values that occur often, such as counts, get bins of their own. Only the tails are smoothed:
        the outermost 100 of y at each level (at most 1 %) are replaced by the tail of a normal
        distribution with their number and mean, up to the largest y that was drawn.

        Parameters
        ----------
        sampler : callable
            Maps an array of x and a random generator to noisy y of the same shape.
        levels : array of shape (L,)
            Clean levels x; 64 over the range of the images are enough for most kinds of noise.
        samples : int
            Number of y drawn at each level.
        seed : int
            Seed of the random numbers.

        Returns
        -------
        Empirical

        Raises
        ------
        UserError
            If the sampler returns anything but one finite y for each x.

        Examples
        --------
        >>> def sampler(x, rng):
        ...     return x + 10 * rng.standard_t(5, x.shape)
        >>> model = Empirical.from_sampler(sampler, np.linspace(0, 255, 64))
        """
        return cls(*histograms_of_sampler(sampler, levels, samples, seed))

    @classmethod
    def from_density(cls, density: Density, levels: Array, edges: Array) -> Empirical:
        """Tabulate noise whose density is known.

        Parameters
        ----------
        density : callable
            Maps arrays x and y, which broadcast, to p(y | x) or anything proportional to it at
            each x, at least 0. It is integrated within each bin with three points.
        levels : array of shape (L,)
            Clean levels x.
        edges : array of shape (B + 1,)
            Edges of the bins of y; they should contain all of the noise.

        Returns
        -------
        Empirical

        Raises
        ------
        UserError
            If the density has another shape, is negative, or is not finite.
        """
        return cls(*histograms_of_density(density, levels, edges))

    @classmethod
    def from_pairs(cls, clean: Array, noisy: Array, bins: int = 64) -> Empirical:
        """Measure the noise of images whose clean image is known.

        The pixels are sorted by their clean value into levels of equal numbers of pixels; each y is
        shifted by the difference of its own x from the mean x of its level. Neighbouring levels are
        joined while their means of y do not differ significantly. Bins and tails are made as in
        `from_sampler`.

        Parameters
        ----------
        clean, noisy : array
            Clean and noisy grey levels of one shape.
        bins : int
            Largest number of levels.

        Returns
        -------
        Empirical

        Raises
        ------
        UserError
            If the shapes differ, or there are no pixels to measure.

        Examples
        --------
        >>> import torch
        >>> rng = np.random.default_rng(0)
        >>> clean = rng.uniform(0, 255, (512, 512))
        >>> model = Empirical.from_pairs(clean, clean + rng.normal(0, 10, clean.shape))
        >>> bool(abs(float(model.variance(torch.tensor(100.0))) - 100) < 5)
        True
        """
        return cls(*histograms_of_pairs(clean, noisy, bins))

    @classmethod
    def load(cls, file: str) -> Empirical:
        """Read a model that `save` wrote.

        Parameters
        ----------
        file : str
            Its path.

        Returns
        -------
        Empirical

        Raises
        ------
        UserError
            If there is no such file, or it contains anything but three arrays of numbers as above.
        """
        check_name(str(file))
        levels, edges, counts = read_arrays(str(file), ("levels", "edges", "counts"))
        return cls(levels, edges, counts, str(file))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Empirical:
        """Read the model from the file that its text form names."""
        return cls.load(values["file"])

    def save(self, file: str | os.PathLike[str]) -> Empirical:
        """Write the model to a file.

        Parameters
        ----------
        file : path
            Path to write to, ``NAME.npz``; ".npz" is added if it is missing.

        Returns
        -------
        Empirical
            The same model, whose text form now names the file.

        Raises
        ------
        UserError
            If the name cannot be part of a text form, or the file cannot be written.
        """
        arrays = {"levels": self.levels, "edges": self.edges, "counts": self.counts}
        return replace(self, file=str(write_arrays(file, arrays)))

    def __str__(self) -> str:
        if self.file is None:
            return "empirical(unsaved)"
        return f"{self.name}(file={format_name(self.file)})"

    def __repr__(self) -> str:
        return "E" + str(self)[1:]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Empirical) and self.content_digest == other.content_digest

    def __hash__(self) -> int:
        return hash(self.content_digest)

    @property
    def lowest(self) -> float:
        """The first level: no x below it is returned."""
        return float(self.levels[0])

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the model, if it was saved."""
        return (self.file,) if self.file else ()

    @cached_property
    def content_digest(self) -> str:
        """Sixteen hexadecimal digits that identify levels, edges and counts."""
        sizes = np.array([len(self.levels), len(self.edges)])
        content = (sizes, self.levels, self.edges, self.counts)
        return hashlib.sha256(b"".join(a.tobytes() for a in content)).hexdigest()[:16]

    def scaled(self, factor: float) -> NoReturn:
        """Raise a `UserError`: measured noise has no parameter for its strength."""
        raise UserError(f"{self} was measured: its strength cannot be changed")

    def in_unit(self, unit: float) -> NoReturn:
        """Raise a `UserError`: measured noise has no parameter for its grey levels."""
        raise UserError(f"{self} was measured: give images in the unit of its table")
