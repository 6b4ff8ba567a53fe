"""Noise as it was measured: histograms of y at known clean levels."""

from __future__ import annotations

import hashlib
import io
import lzma
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch

from ..errors import UserError, quoted
from ..image.output import check_output, written
from .base import MAX_GREY_LEVEL, Pixelwise

Sampler = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Density = Callable[[np.ndarray, np.ndarray], np.ndarray]

# what a bin without a single count is given, so that cumulative distributions rise, and what is
# taken for that rather than for noise
LEAST = 1e-15
NOTHING = 1e-12
# a value drawn more often than this has a bin of its own, this wide, in distances of the values
MANY = 10
NARROW = 0.01
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
# clean values per level at which the score is tabulated, to be inverted
FINE = 4
# bytes of the arrays in a file, unpacked: a thousand levels of 30,000 bins
MAX_FILE_BYTES = 2**28
# weights of bins: their sums and ratios stay numbers
MAX_COUNT = 1e30
# what reading a file that is no such archive raises, whatever was done to it
DAMAGED = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, NotImplementedError,
    SyntaxError, OverflowError, MemoryError, RecursionError, struct.error,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
# the values at each end that a level's tail is drawn from
TAIL = 100


@dataclass(frozen=True, eq=False)
class Empirical(Pixelwise):
    """Any pixelwise noise, as histograms of y at a rising set of clean levels x.

    ``y ~ h_k`` at ``x = levels[k]``, and between two levels each quantile of y goes in a straight
    line from that of the one to that of the other, so that a distribution moves rather than
    fades into the next. Beyond the last level it keeps its form and moves on with x.

    - p(y | x): the histograms, even within a bin
    - f(x, y): differences of their logarithms, over a quarter of a standard deviation to each side

    Parameters
    ----------
    levels : array of shape (L,)
        Clean levels x in grey levels, rising, at least 2. The lowest is the smallest x that will
        be found.
    edges : array of shape (B + 1,)
        Edges of the bins of y in grey levels, rising.
    counts : array of shape (L, B)
        Weight of each bin at each level, 0 or above; each level is scaled to a sum of 1. The mean
        must rise with the level.
    file : str
        Where it is saved; see `save`.

    Raises
    ------
    UserError
        If the arrays are not as above.

    Notes
    -----
    Make one by `from_sampler`, `from_density` or `from_pairs`. The text of a model names its file,
    ``empirical(file=NAME.npz)``. One that was never saved prints as ``empirical(unsaved)``,
    which cannot be read back: save it first. Two models are equal if their contents are.

    Examples
    --------
    >>> def density(x, y):
    ...     return np.exp(-(((y - x) / 10) ** 2) / 2)
    >>> model = Empirical.from_density(density, np.linspace(0, 255, 64), np.arange(-60, 320, 2))
    >>> print(model)
    empirical(unsaved)
    >>> round(float(model.mean(torch.tensor(100.0))), 2)
    100.0
    """

    levels: np.ndarray
    edges: np.ndarray
    counts: np.ndarray
    file: str | None = None

    def __post_init__(self):
        try:
            levels, edges, counts = (
                np.array(values, dtype=np.float64)
                for values in (self.levels, self.edges, self.counts)
            )
        except (TypeError, ValueError, OverflowError):
            raise UserError("empirical: levels, edges and counts must be numbers") from None
        if levels.ndim != 1 or len(levels) < 2 or not _rising(levels):
            raise UserError("empirical: levels must be a rising row of at least 2 numbers")
        if edges.ndim != 1 or len(edges) < 3 or not _rising(edges):
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
        if not _rising(counts @ _middle(edges) / counts.sum(1)):
            raise UserError("empirical: the mean of y must rise from each level to the next")
        for name, values in (("levels", levels), ("edges", edges), ("counts", counts)):
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        object.__setattr__(self, "lowest", float(levels[0]))

    @classmethod
    def from_sampler(
        cls, sampler: Sampler, levels: np.ndarray, samples: int = 100_000, seed: int = 0
    ) -> Empirical:
        """Measure a noise that can be simulated.

        The bins are as fine as the noise needs: their edges are quantiles of y at every level,
        half a standard deviation of a normal distribution apart or less, and levels share them.
        Single values that are drawn often, as counts are, get bins of their own. Nothing is
        smoothed but the ends: the outermost 100 of y at each level (at most 1 %) are replaced by
        the tail of a normal distribution of their number and mean, as far as any y was drawn.

        Parameters
        ----------
        sampler : callable
            From an array of x and a random generator to the noisy y of the same shape.
        levels : array of shape (L,)
            Clean levels x; 64 over the range of the images serve most kinds of noise.
        samples : int
            Number of y drawn at each level.
        seed : int
            Start of the random numbers.

        Returns
        -------
        Empirical

        Examples
        --------
        >>> def sampler(x, rng):
        ...     return x + 10 * rng.standard_t(5, x.shape)
        >>> model = Empirical.from_sampler(sampler, np.linspace(0, 255, 64))
        """
        rng = np.random.default_rng(seed)
        rows = []
        for level in np.asarray(levels, dtype=np.float64).ravel():
            y = np.asarray(sampler(np.full(samples, level), rng), dtype=np.float64)
            if y.shape != (samples,) or not np.isfinite(y).all():
                raise UserError("empirical: the sampler must give one finite y for each x")
            rows.append(np.sort(y))
        return cls._from_rows(levels, rows)

    @classmethod
    def from_density(cls, density: Density, levels: np.ndarray, edges: np.ndarray) -> Empirical:
        """Tabulate a noise whose density can be written down.

        Parameters
        ----------
        density : callable
            From arrays x and y, which broadcast, to p(y | x) or anything proportional to it at
            each x, 0 or above. It is integrated within each bin by three points.
        levels : array of shape (L,)
            Clean levels x.
        edges : array of shape (B + 1,)
            Edges of the bins of y; all of the noise should lie between the first and the last.

        Returns
        -------
        Empirical
        """
        levels, edges = (np.asarray(a, dtype=np.float64).ravel() for a in (levels, edges))
        node, weight = np.polynomial.legendre.leggauss(3)
        half = np.diff(edges)[:, None] / 2
        y = _middle(edges)[:, None] + half * node
        values = np.asarray(density(levels[:, None], y.reshape(1, -1)), dtype=np.float64)
        shape = (len(levels), y.size)
        if values.shape != shape:
            raise UserError(f"empirical: the density must have shape {shape}, not {values.shape}")
        if not np.isfinite(values).all() or values.min() < 0:
            raise UserError("empirical: the density must be finite and 0 or above everywhere")
        return cls(levels, edges, (values.reshape(len(levels), *y.shape) * (half * weight)).sum(-1))

    @classmethod
    def from_pairs(cls, clean: np.ndarray, noisy: np.ndarray, bins: int = 64) -> Empirical:
        """Measure the noise of images whose clean image is known.

        The pixels are sorted by their clean value into levels of equal numbers of pixels; each
        y is moved by the difference of its own x to the mean x of its level. Neighbours whose
        means of y do not differ by more than chance are joined. Bins and ends are those of
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

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> clean = rng.uniform(0, 255, (512, 512))
        >>> model = Empirical.from_pairs(clean, clean + rng.normal(0, 10, clean.shape))
        >>> bool(abs(float(model.variance(torch.tensor(100.0))) - 100) < 5)
        True
        """
        x, y = (np.asarray(a, dtype=np.float64) for a in (clean, noisy))
        if x.shape != y.shape:
            raise UserError(f"empirical: clean is {x.shape} but noisy is {y.shape}")
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if not x.size:
            raise UserError("empirical: there are no pixels to measure")
        limits = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
        which = np.searchsorted(limits, x, side="right")
        order = np.argsort(which, kind="stable")
        starts = np.searchsorted(which[order], np.arange(1, len(limits) + 1))
        levels: list[float] = []
        rows: list[np.ndarray] = []
        group = order[:0]
        for part in np.split(order, starts):
            group = np.concatenate([group, part])
            if len(group) < 2:
                continue
            level = float(x[group].mean())
            row = y[group] + (level - x[group])
            chance = row.std() / np.sqrt(len(row))
            if not levels or row.mean() - rows[-1].mean() > 3 * chance:
                levels.append(level)
                rows.append(np.sort(row))
                group = order[:0]
        return cls._from_rows(np.array(levels), rows)

    @classmethod
    def _from_rows(cls, levels: np.ndarray, rows: list[np.ndarray]) -> Empirical:
        """Make histograms of the sorted y of each level."""
        number = max(17, 1 + 1000 // max(1, len(rows)))
        at = torch.special.ndtr(torch.linspace(-4, 4, number, dtype=torch.float64)).numpy()
        marks = np.unique([row[(at * (len(row) - 1)).round().astype(int)] for row in rows])
        ends = np.unique([row[[0, -1]] for row in rows])
        marks = np.unique(np.concatenate([marks, ends]))
        if len(marks) < 2:
            raise UserError("empirical: y is the same at all levels")
        # An edge goes midway between a mark and the next value, or, where a value was drawn again
        # and again, close to both sides of it: no light, or counted photons.
        left, right = (np.stack([np.searchsorted(r, marks, s) for r in rows]) for s in SIDES)
        above = np.min([np.append(r, np.inf)[k] for r, k in zip(rows, right, strict=True)], axis=0)
        below = np.max(
            [np.append(r, -np.inf)[k - 1] for r, k in zip(rows, left, strict=True)], axis=0
        )
        above[-1], below[0] = 2 * marks[-1] - below[-1], 2 * marks[0] - above[0]
        atom = (right - left).max(axis=0) > MANY
        upper = marks + np.where(atom, NARROW, 0.5) * (above - marks)
        lower = marks - np.where(atom, NARROW, 0.5) * (marks - below)
        edges = np.unique([lower[0], *upper, *lower[atom]])
        counts = [_tailed(-edges[::-1], -row[::-1], _tailed(edges, row)[::-1]) for row in rows]
        return cls(levels, edges, np.array(counts)[:, ::-1])

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
            If there is no such file, or it holds anything but three arrays of numbers as above.
            Nothing is ever unpickled, and sizes are checked before anything is unpacked.
        """
        name = str(file)
        if not name.isprintable() or ("'" in name and '"' in name):
            raise UserError(
                f"empirical: {quoted(name)}: such a name cannot stand in a noise: rename the file"
            )
        levels, edges, counts = _read_arrays(name, ("levels", "edges", "counts"))
        return cls(levels, edges, counts, name)

    def save(self, file: str | os.PathLike[str]) -> Empirical:
        """Write the model to a file.

        Parameters
        ----------
        file : path
            Where to, ``NAME.npz``; ".npz" is added if it is missing.

        Returns
        -------
        Empirical
            The same model, which now knows its file and prints with it.
        """
        path = Path(file)
        if '"' in str(path):
            raise UserError(f"empirical: {path}: a double quote may not stand in the name")
        if path.suffix != ".npz":
            path = path.with_name(path.name + ".npz")
        with (
            written(check_output(path, overwrite=True), overwrite=True) as part,
            open(part, "wb") as archive,
        ):
            np.savez_compressed(archive, levels=self.levels, edges=self.edges, counts=self.counts)
        return replace(self, file=str(path))

    def __str__(self) -> str:
        if self.file is None:
            return "empirical(unsaved)"
        plain = all(c.isalnum() or c in "_-./\\:~" for c in self.file)
        mark = "'" if '"' in self.file else '"'
        return f"empirical(file={self.file if plain else mark + self.file + mark})"

    def __repr__(self) -> str:
        return "E" + str(self)[1:]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Empirical) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """Sixteen letters that stand for levels, edges and counts."""
        sizes = np.array([len(self.levels), len(self.edges)])
        content = (sizes, self.levels, self.edges, self.counts)
        return hashlib.sha256(b"".join(a.tobytes() for a in content)).hexdigest()[:16]

    @cached_property
    def _cdf(self) -> np.ndarray:
        """Cumulative distribution at the edges, for each level."""
        share = self.counts / self.counts.sum(1, keepdims=True) + LEAST
        total = np.cumsum(share, axis=1)
        return np.pad(total / total[:, -1:], ((0, 0), (1, 0)))

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation at each level."""
        share, y = np.diff(self._cdf, axis=1), _middle(self.edges)
        mean = share @ y
        within = np.diff(self.edges) ** 2 / 12
        return mean, np.sqrt(share @ (y**2 + within) - mean**2)

    @cached_property
    def _quantiles(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """For each pair of neighbouring levels: chances, and the quantiles of the two there.

        The chances are all at which either distribution has an edge, so nothing is lost.
        """
        chances, low, high = [], [], []
        for first, last in zip(self._cdf[:-1], self._cdf[1:], strict=True):
            chances.append(np.sort(np.concatenate([first, last])))
            low.append(np.interp(chances[-1], first, self.edges))
            high.append(np.interp(chances[-1], last, self.edges))
        return tuple(torch.from_numpy(np.array(a)) for a in (chances, low, high))  # type: ignore[return-value]

    @property
    def _gain(self) -> float:
        """Growth of the mean with x, over all levels."""
        mean, _ = self._moments
        return float((mean[-1] - mean[0]) / (self.levels[-1] - self.levels[0]))

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        chance = rng.random(x.shape)
        inside = np.clip(x, self.levels[0], self.levels[-1])
        k = np.clip(np.searchsorted(self.levels, inside) - 1, 0, len(self.levels) - 2)
        part = (inside - self.levels[k]) / np.diff(self.levels)[k]
        y = np.empty_like(x)
        for pair in np.unique(k):
            here = k == pair
            low, high = (
                np.interp(chance[here], self._cdf[i], self.edges) for i in (pair, pair + 1)
            )
            y[here] = low + part[here] * (high - low)
        return y + self._gain * (x - inside)

    def mean(self, x):
        """Give E[y | x]."""
        at, beyond = self._inside(x)
        return _interpolate(at, self.levels, self._moments[0]) + self._gain * beyond

    def variance(self, x):
        """Give Var[y | x]."""
        return _interpolate(self._inside(x)[0], self.levels, self._moments[1]) ** 2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        means, _ = self._moments
        at = mean.clamp(float(means[0]), float(means[-1]))
        return _interpolate(at, means, self.levels) + (mean - at) / self._gain

    def score(self, x, y):
        """Give f(x, y)."""
        x, y = torch.broadcast_tensors(x.double(), y.double())
        fine, f = self._scores
        at, part = _place(self._inside(x)[0], fine)
        column = self._column(y)
        return f[at, column] + part * (f[at + 1, column] - f[at, column])

    def solve(self, y, s):
        """Give the x for which f(x, y) = s, between the first and the last level."""
        y, s = torch.broadcast_tensors(y.double(), s.double())
        fine, f = self._scores
        column = self._column(y)
        low, high = torch.zeros_like(column), torch.full_like(column, len(fine) - 1)
        for _ in range(len(fine).bit_length()):
            middle = (low + high) // 2
            below = f[middle, column] < s
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        high = torch.maximum(high, low + 1).clamp(max=len(fine) - 1)
        low = high - 1
        left, right = f[low, column], f[high, column]
        part = ((s - left) / (right - left).clamp(min=1e-300)).clamp(0, 1)
        return fine[low] + part * (fine[high] - fine[low])

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        masses = self._cumulate(edges.double().expand(len(x), -1), x.double()).diff(dim=1)
        return torch.where(masses > NOTHING, masses, 0)

    def _cumulate(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Give P(Y < y | x) for rows of y, one for each x."""
        inside, beyond = self._inside(x)
        pair, part = _place(inside, torch.tensor(self.levels))
        chances, low, high = (a[pair] for a in self._quantiles)
        marks = low + part[:, None] * (high - low)
        y = (y - self._gain * beyond[:, None]).contiguous()
        right = torch.searchsorted(marks, y).clamp(1, marks.shape[1] - 1)
        start, end = marks.gather(1, right - 1), marks.gather(1, right)
        t = ((y - start) / (end - start).clamp(min=1e-300)).clamp(0, 1)
        first = chances.gather(1, right - 1)
        return first + t * (chances.gather(1, right) - first)

    @cached_property
    def _scores(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Fine levels of x, and f at these and the middle of each bin, rising with x."""
        number = FINE * (len(self.levels) - 1) + 1
        fine = np.interp(np.arange(number) / FINE, np.arange(len(self.levels)), self.levels)
        x, y = torch.from_numpy(fine), torch.from_numpy(_middle(self.edges)).expand(number, -1)
        step = torch.sqrt(self.variance(x))[:, None] / 4
        below, here, above = (self._cumulate(y + k * step, x) for k in (-1, 0, 1))
        left, right = here - below, above - here
        # where hardly anything was ever seen: as if the noise were normal
        normal = (self.mean(x)[:, None] - y) / (16 * step**2)
        seen = (left > 1e-9) & (right > 1e-9)
        ratio = torch.where(seen, right, 1) / torch.where(seen, left, 1)
        f = torch.where(seen, torch.log(ratio) / step, normal)
        return x, torch.cummax(f, dim=0).values

    def _column(self, y: torch.Tensor) -> torch.Tensor:
        """Give the bin of each y, the first or last if it is in none."""
        at = torch.searchsorted(torch.tensor(self.edges), y.contiguous(), right=True) - 1
        return at.clamp(0, len(self.edges) - 2)

    def _inside(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split x into what lies between the first and the last level, and what goes beyond."""
        inside = x.clamp(float(self.levels[0]), float(self.levels[-1]))
        return inside, x - inside


def _tailed(edges: np.ndarray, row: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Count sorted values in bins, and smooth the upper tail."""
    under = np.searchsorted(row, edges)
    counts = np.diff(under).astype(float) if counts is None else counts.copy()
    k = int(np.argmax(len(row) - under <= max(10, min(TAIL, len(row) // 100))))
    share = 1 - under[k] / len(row)
    excess = row[under[k] :].sum() / max(1, len(row) - under[k]) - edges[k]
    if len(row) - under[k] >= 5 and share < 0.5 and excess > 0:
        # that of a normal distribution with the same share of values and mean beyond the edge
        start = NormalDist().inv_cdf(1 - share)
        scale = excess / (NormalDist().pdf(start) / share - start)
        beyond = torch.special.ndtr(torch.tensor(-start - (edges[k:] - edges[k]) / scale)).numpy()
        counts[k:] = -np.diff(beyond) / (beyond[0] - beyond[-1]) * counts[k:].sum()
    return counts


def _read_arrays(file: str, names: Sequence[str]) -> list[np.ndarray]:
    """Read arrays of numbers from an NPZ file that holds these and nothing else."""
    wrong = UserError(
        f"empirical: {quoted(file, 300)} is not a noise model that was saved, or damaged"
    )
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise wrong
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sorted(m.filename for m in members) != sorted(f"{name}.npy" for name in names):
                raise wrong
            if sum(member.file_size for member in members) > MAX_FILE_BYTES:
                raise wrong
            return [_array_of(archive.read(f"{name}.npy")) for name in names]
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"empirical: there is no file {quoted(file, 300)}") from None
    except PermissionError as error:
        raise UserError(
            f"empirical: {quoted(file, 300)} cannot be read ({error.strerror})"
        ) from None
    except UserError:
        raise
    except DAMAGED:
        raise wrong from None


def _array_of(content: bytes) -> np.ndarray:
    """Read an NPY file of real numbers, no larger than what follows its header."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "uif" or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("not an array of numbers")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _rising(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and (np.diff(values) > 0).all())


def _middle(edges: np.ndarray) -> np.ndarray:
    return (edges[1:] + edges[:-1]) / 2


def _place(at: torch.Tensor, knots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the interval of each value between rising knots, and how far into it the value is."""
    left = torch.searchsorted(knots, at.contiguous().double(), right=True) - 1
    left = left.clamp(0, len(knots) - 2)
    return left, (at - knots[left]) / (knots[left + 1] - knots[left])


def _interpolate(at: torch.Tensor, knots: np.ndarray, values: np.ndarray) -> torch.Tensor:
    left, part = _place(at, torch.tensor(knots))
    known = torch.tensor(values)
    return known[left] + part * (known[left + 1] - known[left])
