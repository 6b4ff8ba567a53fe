"""From a score to the clean image, and how certain it is: what each noise model needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.correlated import fixed_point
from ..noise.family import NoiseFamily
from ..noise.kernel import Kernel
from ..noise.parameter import MAX_GREY_LEVEL
from .quantization import UNQUANTIZED, Quantization
from .table import make_table
from .transform import Transform

Solver = Callable[[Tensor, Tensor], Tensor]
"""From y and the score of T(y), both of one shape ``(..., Y, X)``, to x."""
Split = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Shift = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From x, y and a change of x to a change of y, all of one shape ``(..., Y, X)``."""
NONE = Kernel(((1.0,),))
# noise of a larger standard deviation than so many times the range of the grey levels is none
MAX_NOISE = 2.0


def make_solver(
    noise: NoiseModel,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
    quantization: Quantization = UNQUANTIZED,
    kernel: Kernel | None = None,
    exact: bool = True,
) -> Solver:
    """Make what solves ``s = f(x, y)`` for x.

    Parameters
    ----------
    noise : NoiseModel
        The noise p(y | x).
    transform : Transform
        Coordinates T in which the score was learned.
    sigma_a : float
        Noise added in training, in units of z = T(y); it is known and accounted for.
    low, high : float
        Range of the noisy grey levels to be solved.
    quantization : Quantization
        What digitisation did to y; taken into account where pixels are independent.
    kernel : Kernel, optional
        The correlation K that was undone before the score was learned; best that of the whole
        noise, read noise included.
    exact : bool
        By the table where that can be, or by the closed forms of the papers.

    Returns
    -------
    callable
        From y and the score of T(y) to x. Where a kernel was undone, y stands for K⁻¹ y. For
        correlated noise, x within `reach_of` the border of a block is not valid.

    Raises
    ------
    UserError
        If the score was learned for a correlation and the model has none.

    Notes
    -----
    Pixelwise models are solved exactly, by a `Table`. For correlated noise, what the score says
    of y (K⁻ᵀ times that of K⁻¹ y) is turned by Tweedie's formula into what it says of
    ``z ~ base(x)``: read noise and perturbation are taken off, but for white noise of the size
    that they have per pixel of A⁻¹ y, which the table solves for (Xie et al., Section 3.3, take all
    of it off). That is exact for Gaussian noise, and for all else where K = A and there is no read
    noise. Where K differs from A and no read noise smooths what is left, the closed forms of the
    papers serve, with the perturbation counted as read noise.

    Examples
    --------
    >>> import torch
    >>> from napari_noise2score.noise import A, Gaussian
    >>> solve = make_solver(Gaussian(10) @ A, Transform(c0=100), 0.3, 0, 255, kernel=A)
    >>> solve(torch.full((64, 64), 100.0), torch.full((64, 64), -1.0))[32, 32]
    tensor(89.1000)
    """
    check_levels(noise, low, high)
    base, own, read = noise.components
    if own is None and kernel is None:
        if exact:
            return make_table(noise, transform, sigma_a, low, high, quantization)
        return make_closed_form(noise, transform, sigma_a, kernel)
    if own is None:
        raise UserError(
            f"the model was trained for noise correlated by {kernel}: "
            f"the noise must say so, as in '... @ {kernel}', not '{noise}'"
        )
    # undoing another correlation leaves the noise too rough for the table, but for read noise
    if not exact or (own != kernel and not read and not base.additive):
        return make_closed_form(noise, transform, sigma_a, kernel)
    split = _split(kernel or NONE, read, transform, sigma_a)
    if base.additive:
        return _additive(base, own, split, (low, high))
    return _blurred(base, own, read, split, transform, sigma_a, low, high)


def check_levels(noise: NoiseModel, low: float, high: float) -> None:
    """Raise a `UserError` if a noise model cannot be that of such grey levels.

    Parameters
    ----------
    noise : NoiseModel
        The noise.
    low, high : float
        Range of the noisy grey levels.

    Raises
    ------
    UserError
        Naming the parameter that lies outside: an offset above all grey levels, or noise several
        times as strong as all grey levels are apart.

    Examples
    --------
    >>> from napari_noise2score.noise import Poisson
    >>> check_levels(Poisson(gain=2, offset=5000), 92, 225)
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: offset=5000 lies above all grey levels, 92 to 225: no pixel
    would hold any light
    """
    base, _, read = noise.components
    levels = f"grey levels, {low:.4g} to {high:.4g}"
    if noise.offset >= high:
        raise UserError(
            f"offset={base.offset:g} lies above all {levels}: no pixel would hold any light"
        )
    room = MAX_NOISE * (high - low)
    if read > room:
        raise UserError(f"sigma={read:g} is more than all {levels}, are apart: use their unit")
    middle = torch.tensor((max(low, noise.offset) + high) / 2, dtype=torch.float64)
    x = noise.clean_from_mean(middle).clamp(min=noise.lowest)
    spread = float(noise.variance(x).sqrt())
    darkest = max(noise.lowest, -MAX_GREY_LEVEL)
    nothing = float(noise.mean(torch.tensor(darkest, dtype=torch.float64)))
    if not spread <= room or nothing >= high:
        raise UserError(
            f"the noise '{noise}' is more than all {levels}, are apart: its standard deviation "
            f"would be {spread:.4g}; use the unit of the image"
        )


def reach_of(noise: NoiseModel, learned: Kernel | None) -> int:
    """How far, in pixels, the solver takes from a pixel's surroundings."""
    own = noise.components.kernel
    if own is None:
        return 0
    return own.reach + (learned.reach if learned and learned != own else 0)


def make_closed_form(
    noise: NoiseModel, transform: Transform, sigma_a: float, kernel: Kernel | None = None
) -> Solver:
    """Make what solves ``s = f(x, y)`` by the closed forms and algorithms of the papers.

    The perturbation σ_a counts as read noise of that size, which is removed together with the
    model's own by Tweedie's formula, ``z̄ = y + (σ_g² + σ_a²) s`` (Xie et al., Section 3.3),
    before the rest is solved by ``noise.solve``.

    Parameters
    ----------
    noise, transform, sigma_a, kernel
        As for `make_solver`.

    Returns
    -------
    callable
        As that of `make_solver`.

    Examples
    --------
    >>> import torch
    >>> from napari_noise2score.noise import Gaussian
    >>> solve = make_closed_form(Gaussian(10), Transform(c0=100), sigma_a=0.3)
    >>> solve(torch.tensor([100.0]), torch.tensor([-1.0]))
    tensor([89.1000])
    """
    base, own, read = noise.components
    model = base if own is None else base @ own

    def solve(y: Tensor, s: Tensor) -> Tensor:
        score = transform.raw_score(y, s, sigma_a)
        added = sigma_a**2 * transform.variance(y) * score
        if kernel is not None:
            y, added = kernel.apply(y), kernel.apply(added)
            score = kernel.undo_transposed(score)
        return model.solve(y + read**2 * score + added, score)

    return solve


def make_shift(
    noise: NoiseModel, transform: Transform, sigma_a: float, kernel: Kernel | None = None
) -> Shift:
    """Make what tells along which change of y the solution shows its posterior covariance.

    Parameters
    ----------
    noise, transform, sigma_a, kernel
        As for `make_solver`.

    Returns
    -------
    callable
        Of x, y and v it gives ``Σ B⁻ᵀ v``, where E[y | x] = B x, and Σ is the covariance of the
        noise at x, σ_a included. Where a kernel was undone, y stands for K⁻¹ y. Planes wrap around.

    Notes
    -----
    ``Cov[x | y] = (∂x/∂y) Σ B⁻ᵀ``: for Gaussian noise of any covariance this is exact whatever the
    picture, being the second order of Tweedie's formula.

    Examples
    --------
    >>> import torch
    >>> from napari_noise2score.noise import A, Gaussian
    >>> shift = make_shift(Gaussian(10) @ A, Transform(c0=100), 0.3, kernel=A)
    >>> flat = torch.ones(32, 32)
    >>> shift(flat, flat, flat)[0, 0]  # of σ² Aᵀ v + σ_a² T'⁻² Aᵀ v
    tensor(109.)
    """
    base, own, read = noise.components
    own, learned = own or NONE, kernel or NONE

    def shift(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        variance = base.variance(x.clamp(min=base.lowest))
        if base.additive:
            spread = own.apply_transposed(variance * own.apply(v)) + read**2 * v
        else:
            # the picture is blurred with its noise
            blurred = own.apply(variance * v)
            v = own.undo_transposed(v)
            spread = blurred + read**2 * v
        return learned.undo(spread) + sigma_a**2 * transform.variance(y) * learned.apply_transposed(
            v
        )

    return shift


def _split(learned: Kernel, read: float, transform: Transform, sigma_a: float) -> Split:
    """Make what gives y less read noise and perturbation, the score of y, and what σ_a added."""

    def split(w: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score = transform.raw_score(w, s, sigma_a)
        added = sigma_a**2 * transform.variance(w)
        own = learned.undo_transposed(score)
        return learned.apply(w + added * score) + read**2 * own, own, added

    return split


def _additive(
    base: NoiseFamily, kernel: Kernel, split: Split, limits: tuple[float, float]
) -> Solver:
    def solve(w: Tensor, s: Tensor) -> Tensor:
        known, score, _ = split(w, s)
        drift = kernel.apply(score)
        return fixed_point(
            base, known, lambda variance: known + kernel.apply_transposed(variance * drift), limits
        )

    return solve


def _blurred(
    base: NoiseModel,
    kernel: Kernel,
    read: float,
    split: Split,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
) -> Solver:
    # The read noise of a pixel of A⁻¹ y given that of all others. Less, as the least that it has at
    # any frequency, would leave so much to Tweedie's formula that the curvature of f is felt.
    white = read**2 / kernel.power
    noise = base.with_read_noise(white**0.5)
    table = make_table(noise, transform, sigma_a, low, high)

    def solve(w: Tensor, s: Tensor) -> Tensor:
        known, score, added = split(w, s)
        score = kernel.apply_transposed(score)
        # what is white of read noise and perturbation the table solves for exactly
        q = kernel.undo(known) - (white + added) * score
        return table(q, transform.own_score(q, score, sigma_a))

    return solve
