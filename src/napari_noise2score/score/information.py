"""The Fisher information of the data, as the trained score measures it on patches of the images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ._evaluate import clip_to_training, perturbed_score

if TYPE_CHECKING:
    from .model import ScoreModel

MAX_BINS = 16
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the denoised pixels of a bin
SURROUNDINGS = 5  # pixels along Y and X; the intensity of a pixel is the mean around it
QUERIES = 2  # pairs of perturbations of each patch
# Grey levels that more than this share of the pixels have, and this many times as many as the
# levels beside them, are reported.
MIN_SHARE_OF_LEVEL = 0.01
MIN_EXCESS_OF_LEVEL = 3.0
MAX_LEVELS = 3
LEVELS_BESIDE = 3  # on each side
MAX_STEP_IN_NOISE = 0.5  # of the grey levels, in standard deviations of the noise
MAX_GRID = 2**20  # grey levels


class PatchSample(NamedTuple):
    """Patches of the images, and how many different pixels they can be drawn from.

    Attributes
    ----------
    y : Tensor
        Grey levels, shape ``(n, channels, *space)``.
    valid : Tensor or None
        1 for valid and 0 for invalid pixels; None if all are valid.
    pixels : int
        Number of pixels of the images that patches are drawn from.
    context : Tensor or None
        Grey levels of the neighbours, NaN where they are not known; None without context.
    """

    y: Tensor
    valid: Tensor | None
    pixels: int
    context: Tensor | None = None


@dataclass(frozen=True)
class Information:
    """The Fisher information of the data at the perturbation σ_a.

    Information is in units of that of Gaussian noise of unit variance: ``E[s²] (1 + σ_a²)`` of
    perturbed queries ``z + σ_a u``, and a loss is that of the training. A perfect score has the
    loss −information; a loss above that shows how far the score is from perfect, so that −loss is
    never above the information of the data.

    Attributes
    ----------
    sigma_a : float
        The perturbation, in units of z.
    grey_levels : tuple of float
        Mean intensity of each bin, increasing: T⁻¹ of the mean of denoised z around the pixels.
    denoised : tuple of tuple of float
        Quantiles of the denoised grey levels of the pixels of each bin.
    share : tuple of float
        Share of the held-out pixels in each bin.
    information, loss : tuple of float
        Of the held-out pixels of each bin.
    error : tuple of float
        Standard error of the loss of each bin.
    training_information, training_loss : float
        Of patches that the score was trained on.
    held_out : bool
        Whether pixels were held out: if not, the images are too small.
    correlation : float
        Partial correlation of neighbouring pixels, −E[s s'] / E[s²], along Y or X, whichever is
        larger; about 0 if the noise is white.
    levels : tuple of (float, float)
        Grey levels that stand out in the histogram of the pixels, and the shares of the pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (1, 128, 128))
    >>> found = train(stack, axes="TYX", steps=2).information
    >>> found.held_out, round(sum(found.share), 3)
    (True, 1.0)
    """

    sigma_a: float
    grey_levels: tuple[float, ...]
    denoised: tuple[tuple[float, ...], ...]
    share: tuple[float, ...]
    information: tuple[float, ...]
    loss: tuple[float, ...]
    error: tuple[float, ...]
    training_information: float
    training_loss: float
    held_out: bool
    correlation: float = 0.0
    levels: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        binned = (self.grey_levels, self.share, self.information, self.loss, self.error)
        counts = {len(values) for values in (*binned, self.denoised)}
        numbers = [n for values in (*binned, *self.levels, *self.denoised) for n in values]
        numbers += [self.sigma_a, self.training_information, self.training_loss]
        numbers += [self.correlation]
        if len(counts) != 1 or not 1 <= len(self.share) <= MAX_BINS:
            raise ValueError("the bins of the information do not match")
        if not all(map(math.isfinite, numbers)):
            raise ValueError("the information is not a finite number")
        at_least_0 = (self.share, self.information, self.error, [self.training_information])
        if self.sigma_a <= 0 or any(n < 0 for values in at_least_0 for n in values):
            raise ValueError("the information is negative")
        if any(b < a for a, b in zip(self.grey_levels, self.grey_levels[1:], strict=False)):
            raise ValueError("the grey levels of the information do not rise")
        if not math.isclose(sum(self.share), 1, abs_tol=1e-3):
            raise ValueError("the shares of the information do not sum to 1")
        if any(len(values) != len(QUANTILES) for values in self.denoised):
            raise ValueError("the quantiles of the information are not complete")
        if len(self.levels) > MAX_LEVELS or any(not 0 <= share <= 1 for _, share in self.levels):
            raise ValueError("the grey levels that stand out are not shares")

    @property
    def overall(self) -> float:
        """Information of all held-out pixels."""
        return float(np.dot(self.share, self.information))

    @property
    def overall_loss(self) -> float:
        """Loss of all held-out pixels."""
        return float(np.dot(self.share, self.loss))

    def describe(self) -> str:
        """Return the numbers in one line."""
        text = (
            f"{self.overall:.2f} times that of Gaussian noise of unit variance "
            f"(loss {self.overall_loss:.2f}); training patches {self.training_information:.2f} "
            f"(loss {self.training_loss:.2f})"
        )
        shares = [
            f"{share:.1%} of the pixels are exactly {level:g}" for level, share in self.levels
        ]
        return "; ".join([text, *shares])

    def as_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(values: Any) -> Information:
        """Return the information that a model file holds.

        Raises
        ------
        ValueError
            If a value is missing, unknown or impossible.
        """
        if not isinstance(values, Mapping):
            raise ValueError("the information is not a list of named values")
        names = set(Information.__dataclass_fields__)
        if set(values) != names or not isinstance(values["held_out"], bool):
            raise ValueError(f"the information needs {', '.join(sorted(names))}")
        fields: dict[str, Any] = dict(values)
        for name in ("grey_levels", "share", "information", "loss", "error"):
            fields[name] = _numbers(fields[name], name)
        for name in ("sigma_a", "training_information", "training_loss", "correlation"):
            (fields[name],) = _numbers([fields[name]], name)
        for name in ("denoised", "levels"):
            if not isinstance(fields[name], list | tuple):
                raise ValueError(f"{name} is not a list")
            fields[name] = tuple(_numbers(each, name) for each in fields[name])
        if any(len(pair) != 2 for pair in fields["levels"]):
            raise ValueError("levels is not a list of pairs")
        return Information(**fields)


def measure_information(
    model: ScoreModel, held_out: PatchSample, training: PatchSample, separate: bool, seed: int
) -> Information:
    """Measure the information of the data by the score of perturbed patches.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    held_out, training : PatchSample
        Patches that were held out from the training, and patches of the training.
    separate : bool
        Whether the held-out patches have no pixel in common with the others.
    seed : int
        Seed of the perturbations.

    Returns
    -------
    Information
    """
    generator = torch.Generator().manual_seed(seed)
    seen = _query(model, held_out, generator)
    other = _query(model, training, generator, 1)
    bins = min(MAX_BINS, max(1, len(seen.information) // 256))
    edges = np.quantile(seen.intensity, np.linspace(0, 1, bins + 1)[1:-1])
    which = np.searchsorted(edges, seen.intensity, side="right")
    at = [np.flatnonzero(which == b) for b in range(bins)]
    at = [pixels for pixels in at if len(pixels)]
    drawn = len(seen.information)
    # patches overlap, so that they hold fewer different pixels than were drawn
    repeats = 1 + drawn / max(held_out.pixels, 1)
    z = torch.tensor([float(seen.intensity[pixels].mean()) for pixels in at], dtype=torch.float64)

    quantiles = torch.from_numpy(
        np.stack([np.quantile(seen.denoised[pixels], QUANTILES) for pixels in at])
    )

    def means(values: NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(float(values[pixels].mean()) for pixels in at)

    return Information(
        sigma_a=float(model.sigma_a),
        grey_levels=tuple(model.transform.inverse(z).tolist()),
        denoised=tuple(tuple(row) for row in model.transform.inverse(quantiles).tolist()),
        share=tuple(len(pixels) / drawn for pixels in at),
        information=means(seen.information),
        loss=means(seen.loss),
        error=tuple(
            float(seen.loss[pixels].std() * math.sqrt(repeats / len(pixels))) for pixels in at
        ),
        training_information=float(other.information.mean()),
        training_loss=float(other.loss.mean()),
        held_out=separate,
        correlation=max(seen.correlations, key=abs),
        levels=_levels_that_stand_out(
            model, np.concatenate([_valid_pixels(sample) for sample in (held_out, training)])
        ),
    )


class _Queries(NamedTuple):
    """Information, loss, denoised z and z around them of valid pixels, each 1-D.

    The partial correlations are those of neighbours along Y and along X.
    """

    information: NDArray[np.float64]
    loss: NDArray[np.float64]
    denoised: NDArray[np.float64]
    intensity: NDArray[np.float64]
    correlations: tuple[float, float] = (0.0, 0.0)


def _query(
    model: ScoreModel, sample: PatchSample, generator: torch.Generator, queries: int = QUERIES
) -> _Queries:
    """Evaluate the score of perturbed patches, one at a time, in single precision."""
    sigma, weight = model.sigma_a, 1 + model.sigma_a**2
    found: list[tuple[NDArray[np.float64], ...]] = []
    products = np.zeros(3)
    for i in range(len(sample.y)):
        y = sample.y[i : i + 1]
        valid = torch.ones_like(y) if sample.valid is None else sample.valid[i : i + 1]
        if not valid.any():
            continue
        z = model.transform.forward(clip_to_training(y, model.low, model.high))
        context = None
        if sample.context is not None:
            context = model.neighbour_input(sample.context[i : i + 1]).to(model.device)
        squared, trace, score = (torch.zeros_like(z) for _ in range(3))
        for _ in range(queries):
            u = torch.randn(z.shape, generator=generator) * valid
            with torch.inference_mode():
                both = torch.cat([z + sigma * u, z - sigma * u]).to(model.device)
                levels = torch.full((2,), sigma, device=model.device)
                s = perturbed_score(
                    model.network, both, levels, model.mean, model.scale, context
                ).cpu()
            plus, minus = s[:1], s[1:]
            squared += (plus**2 + minus**2) / (2 * queries)
            trace += u * (plus - minus) / (sigma * queries)
            score += (plus + minus) / (2 * queries)
            products += _products(plus * valid)
        denoised = z + weight * score
        use = valid > 0
        values = (weight * squared, weight * (squared + trace), denoised, _mean_around(denoised))
        found.append(tuple(v[use].double().numpy() for v in values))
    if not found:
        empty = np.zeros(1)
        return _Queries(empty, empty, empty, empty)
    square_sum, *along = products.tolist()
    y_axis, x_axis = (-product / max(square_sum, 1e-12) for product in along)
    square, loss, denoised_z, around = (np.concatenate(v) for v in zip(*found, strict=True))
    return _Queries(square, loss, denoised_z, around, (y_axis, x_axis))


def _products(s: Tensor) -> NDArray[np.float64]:
    """Return the mean of s², and of the products of neighbours along Y and along X."""
    pairs = [(s, s), (s[..., 1:, :], s[..., :-1, :]), (s[..., 1:], s[..., :-1])]
    return np.array([float((a * b).double().mean()) if a.numel() else 0.0 for a, b in pairs])


def _mean_around(z: Tensor) -> Tensor:
    """Return the mean of the surroundings of each pixel, without the pixel itself.

    With it, pixels whose noise is large would be put into one bin.
    """
    planes = z.reshape(-1, 1, *z.shape[-2:])
    if min(planes.shape[-2:]) <= SURROUNDINGS // 2:
        return torch.full_like(z, float(z.mean()))
    padded = F.pad(planes, (SURROUNDINGS // 2,) * 4, mode="reflect")
    total = F.avg_pool2d(padded, SURROUNDINGS, stride=1) * SURROUNDINGS**2
    return ((total - planes) / (SURROUNDINGS**2 - 1)).reshape(z.shape)


def _valid_pixels(sample: PatchSample) -> NDArray[np.float32]:
    pixels = sample.y if sample.valid is None else sample.y[sample.valid > 0]
    values: NDArray[np.float32] = pixels.numpy().ravel()
    return values


def _levels_that_stand_out(
    model: ScoreModel, values: NDArray[np.float32]
) -> tuple[tuple[float, float], ...]:
    """Return single grey levels that far more pixels have than the levels beside them."""
    levels, counts = np.unique(values, return_counts=True)
    step = model.quantization.step
    at = np.arange(len(levels))
    if step and (levels[-1] - levels[0]) / step < MAX_GRID:
        # levels of the grid that no pixel has count as well
        at = np.rint((levels - levels[0]) / step).astype(np.intp)
    padded = np.zeros(int(at[-1]) + 1 + 2 * LEVELS_BESIDE)
    padded[at + LEVELS_BESIDE] = counts
    beside = [padded[at + i] for i in range(2 * LEVELS_BESIDE + 1) if i != LEVELS_BESIDE]
    slope = model.transform.slope(torch.from_numpy(levels.astype(np.float64))).numpy()
    share = counts / len(values)
    found = np.flatnonzero(
        (share >= MIN_SHARE_OF_LEVEL)
        & (counts > MIN_EXCESS_OF_LEVEL * np.median(beside, axis=0))
        # noise that is weaker makes every image look so
        & (step * slope <= MAX_STEP_IN_NOISE)
    )
    most = found[np.argsort(-share[found], kind="stable")][:MAX_LEVELS]
    return tuple((float(levels[i]), float(share[i])) for i in most)


def _numbers(values: Any, name: str) -> tuple[float, ...]:
    """Return numbers of a file as they are."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{name} is not a list")
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in values):
        raise ValueError(f"{name} is not a list of numbers")
    return tuple(values)
