"""Solve for the clean image, given a score and a noise model, and for its posterior covariance."""

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
"""Maps y and the score of T(y), both of one shape ``(..., Y, X)``, to x."""
TweedieStep = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Maps y and the score of T(y) to y less its Gaussian noise, the score of y, and σ_a² T'⁻²."""
Shift = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps x, y and a change of x to a change of y, all of one shape ``(..., Y, X)``."""
IDENTITY = Kernel(((1.0,),))
MAX_NOISE_RATIO = 2.0  # of the noise's standard deviation to the range of the grey levels


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
    """Return a function that solves ``s = f(x, y)`` for x.

    Parameters
    ----------
    noise : NoiseModel
        The noise p(y | x).
    transform : Transform
        The transform T to the coordinates in which the score was learned.
    sigma_a : float
        Perturbation σ_a of the training, in units of z = T(y), which the solver accounts for.
    low, high : float
        Range of the noisy grey levels to be solved.
    quantization : Quantization
        How y was digitized; used only if the noise of pixels is independent.
    kernel : Kernel, optional
        Correlation kernel K that was undone before the score was learned; ideally that of the
        whole noise, read noise included.
    exact : bool
        Solve by a look-up table where possible, otherwise by the closed forms of the papers.

    Returns
    -------
    callable
        Maps y and the score of T(y) to x. If a kernel was undone, y is K⁻¹ y. For correlated noise,
        x within `reach_of` pixels of the border of a block is not valid.

    Raises
    ------
    UserError
        If the noise cannot belong to these grey levels, or the score was learned for correlated
        noise and the noise model has no correlation.

    Notes
    -----
    Noise that is independent between pixels is solved exactly, by a `Table`. For correlated noise
    with kernel A, the score of y (K⁻ᵀ times that of K⁻¹ y) is converted by Tweedie's formula to
    that of ``z ~ base(x)``. This removes read noise and perturbation except for the white noise
    that they leave in each pixel of A⁻¹ y, which the table accounts for (Xie et al., Section 3.3,
    remove all of it). The result is exact for Gaussian noise, and for any noise if K = A and there
    is no read noise. If K differs from A and there is no read noise, the remaining noise is too
    rough for the table (but not if only the noise is correlated, ``noise_kernel``: the solution is
    the fixed point of Tweedie's formula ``x = y + Aᵀ diag(v(x)) A s``, which needs no inverse; v is
    the variance at x); the closed forms of the papers are used, with the perturbation counted as
    read noise.

    Examples
    --------
    >>> import torch
    >>> from napari_noise2score.noise import A, Gaussian
    >>> solve = make_solver(Gaussian(10) @ A, Transform(c0=100), 0.3, 0, 255, kernel=A)
    >>> solve(torch.full((64, 64), 100.0), torch.full((64, 64), -1.0))[32, 32]
    tensor(89.1000)
    """
    check_grey_levels(noise, low, high)
    base, own, read = noise.components
    if own is None and kernel is None:
        if exact:
            return make_table(noise, transform, sigma_a, low, high, quantization)
        return make_closed_form(noise, transform, sigma_a, kernel)
    if own is None:
        raise UserError(
            f"the model was trained for noise that is correlated by {kernel}, and the noise model "
            f"'{noise}' has no correlation: write it as '... @ {kernel}'"
        )
    # if another correlation was undone, the noise is too rough for the table without read noise
    if not exact or (own != kernel and not read and not noise.additive):
        return make_closed_form(noise, transform, sigma_a, kernel)
    tweedie_step = _make_tweedie_step(kernel or IDENTITY, read, transform, sigma_a)
    if noise.additive:
        return _make_additive_solver(base, own, tweedie_step, (low, high))
    return _make_blurred_solver(base, own, read, tweedie_step, transform, sigma_a, low, high)


def check_grey_levels(noise: NoiseModel, low: float, high: float) -> None:
    """Raise a `UserError` if a noise model cannot belong to these grey levels.

    Parameters
    ----------
    noise : NoiseModel
        The noise.
    low, high : float
        Range of the noisy grey levels.

    Raises
    ------
    UserError
        If the offset is above all grey levels, or the standard deviation of the noise is more than
        `MAX_NOISE_RATIO` times their range. The message names the parameter.

    Examples
    --------
    >>> from napari_noise2score.noise import Poisson
    >>> check_grey_levels(Poisson(gain=2, offset=5000), 92, 225)
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: offset=5000 lies above all grey levels, 92 to 225: correct
    the offset, as no pixel would contain any signal
    """
    base, _, read = noise.components
    levels = f"grey levels, {low:.4g} to {high:.4g}"
    if noise.offset >= high:
        raise UserError(
            f"offset={base.offset:g} lies above all {levels}: correct the offset, as no pixel "
            "would contain any signal"
        )
    max_deviation = MAX_NOISE_RATIO * (high - low)
    if read > max_deviation:
        raise UserError(
            f"sigma={read:g} is too large for the {levels}: give it in the unit of the image"
        )
    middle = torch.tensor((max(low, noise.offset) + high) / 2, dtype=torch.float64)
    x = noise.clean_from_mean(middle).clamp(min=noise.lowest)
    spread = float(noise.variance(x).sqrt())
    darkest = max(noise.lowest, -MAX_GREY_LEVEL)
    lowest_mean = float(noise.mean(torch.tensor(darkest, dtype=torch.float64)))
    if not spread <= max_deviation or lowest_mean >= high:
        raise UserError(
            f"the noise '{noise}' is too strong for the {levels}: its standard deviation would be "
            f"{spread:.4g}; give its parameters in the unit of the image"
        )


def reach_of(noise: NoiseModel, learned: Kernel | None) -> int:
    """Return how many pixels along Y and X around a pixel the solver uses.

    Parameters
    ----------
    noise : NoiseModel
        The noise.
    learned : Kernel or None
        Correlation kernel that was undone before the score was learned.

    Returns
    -------
    int
    """
    own = noise.components.kernel
    if own is None:
        return 0
    return own.reach + (learned.reach if learned and learned != own else 0)


def make_closed_form(
    noise: NoiseModel, transform: Transform, sigma_a: float, kernel: Kernel | None = None
) -> Solver:
    """Return a function that solves ``s = f(x, y)`` by the closed forms of the papers.

    The perturbation σ_a is treated as read noise. Together with the read noise of the noise model,
    it is removed by Tweedie's formula, ``z̄ = y + (σ_g² + σ_a²) s`` (Xie et al., Section 3.3);
    ``noise.solve`` then solves for x.

    Parameters
    ----------
    noise, transform, sigma_a, kernel
        As for `make_solver`.

    Returns
    -------
    callable
        As from `make_solver`.

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
    """Return the function by whose result the posterior covariance of the solution is measured.

    Parameters
    ----------
    noise, transform, sigma_a, kernel
        As for `make_solver`.

    Returns
    -------
    callable
        Maps x, y and v to ``Σ B⁻ᵀ v``, where E[y | x] = B x and Σ is the covariance of the noise at
        x, σ_a included. If a kernel was undone, y is K⁻¹ y. Planes wrap around.

    Notes
    -----
    The posterior covariance is ``Cov[x | y] = (∂x/∂y) Σ B⁻ᵀ``. This second-order Tweedie formula is
    exact for Gaussian noise of any covariance.

    Examples
    --------
    >>> import torch
    >>> from napari_noise2score.noise import A, Gaussian
    >>> shift = make_shift(Gaussian(10) @ A, Transform(c0=100), 0.3, kernel=A)
    >>> flat = torch.ones(32, 32)
    >>> shift(flat, flat, flat)[0, 0]  # σ² Aᵀ v + σ_a² T'⁻² Aᵀ v
    tensor(109.)
    """
    base, own, read = noise.components
    own, learned = own or IDENTITY, kernel or IDENTITY

    def shift(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        variance = base.variance(x.clamp(min=base.lowest))
        if noise.additive:
            spread = own.apply_transposed(variance * own.apply(v)) + read**2 * v
        else:
            # the image is blurred together with its noise
            blurred = own.apply(variance * v)
            v = own.undo_transposed(v)
            spread = blurred + read**2 * v
        return learned.undo(spread) + sigma_a**2 * transform.variance(y) * learned.apply_transposed(
            v
        )

    return shift


def _make_tweedie_step(
    learned: Kernel, read: float, transform: Transform, sigma_a: float
) -> TweedieStep:
    """Return a function that removes read noise and perturbation by Tweedie's formula."""

    def tweedie_step(w: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score = transform.raw_score(w, s, sigma_a)
        added = sigma_a**2 * transform.variance(w)
        own = learned.undo_transposed(score)
        return learned.apply(w + added * score) + read**2 * own, own, added

    return tweedie_step


def _make_additive_solver(
    base: NoiseFamily, kernel: Kernel, tweedie_step: TweedieStep, limits: tuple[float, float]
) -> Solver:
    """Return a solver for additive correlated noise, whose variance may depend on x."""

    def solve(w: Tensor, s: Tensor) -> Tensor:
        z, score, _ = tweedie_step(w, s)
        drift = kernel.apply(score)
        x = fixed_point(
            base, z, lambda variance: z + kernel.apply_transposed(variance * drift), limits
        )
        return base.clean_from_mean(x)

    return solve


def _make_blurred_solver(
    base: NoiseModel,
    kernel: Kernel,
    read: float,
    tweedie_step: TweedieStep,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
) -> Solver:
    """Return a solver for noise that is blurred by a kernel together with the image."""
    # Variance of the read noise of a pixel of A⁻¹ y given that of all others. With less, such as
    # the minimum over all frequencies, the curvature of f would affect Tweedie's formula.
    white = read**2 / kernel.power
    noise = base.with_read_noise(white**0.5)
    table = make_table(noise, transform, sigma_a, low, high)

    def solve(w: Tensor, s: Tensor) -> Tensor:
        z, score, added = tweedie_step(w, s)
        score = kernel.apply_transposed(score)
        # the white component of read noise and perturbation is left in: the table is exact for it
        q = kernel.undo(z) - (white + added) * score
        return table(q, transform.own_score(q, score, sigma_a))

    return solve
