"""From a score to the clean image: which solver a noise model needs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..errors import UserError
from .base import NoiseModel
from .correlated import Correlated, parts, settle
from .gaussian import Gaussian
from .kernel import Kernel
from .recording import EXACT, Recording
from .table import make_table
from .transform import Transform

Solver = Callable[[Tensor, Tensor], Tensor]
"""From y and the score of T(y), both of one shape ``(..., Y, X)``, to x."""


def make_solver(
    noise: NoiseModel,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
    recording: Recording = EXACT,
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
    recording : Recording
        What digitisation did to y; taken into account where pixels are independent.
    kernel : Kernel, optional
        The correlation that was undone before the score was learned.
    exact : bool
        By the table where that can be, or by the closed forms of the papers.

    Returns
    -------
    callable
        From y and the score of T(y) to x. Where a kernel was undone, y stands for A⁻¹ y. For
        correlated noise, x within ``noise.kernel.reach`` of the border of a block is not valid.

    Raises
    ------
    UserError
        If the score was learned for another correlation than the model has.

    Notes
    -----
    Pixelwise models are solved exactly, by a `Table`. Correlated ones are exact, too, if the score
    was learned of A⁻¹ y and there is no read noise; read noise, which A⁻¹ makes coloured, is
    first removed but for its white part by Tweedie's formula (Xie et al., Section 3.3).
    A score learned of y itself is put through the closed forms of the papers, with the
    perturbation σ_a counted as read noise.

    Examples
    --------
    >>> import torch
    >>> from napari_noise2score.noise import A, Gaussian
    >>> solve = make_solver(Gaussian(10) @ A, Transform(c0=100), 0.3, 0, 255, kernel=A)
    >>> solve(torch.full((64, 64), 100.0), torch.full((64, 64), -1.0))[32, 32]
    tensor(89.1000)
    """
    base, own, read = parts(noise)
    if kernel is not None and own != kernel:
        raise UserError(
            f"the model was trained for noise correlated by {kernel}: "
            f"the noise must be written '... @ {kernel}', not '{noise}'"
        )
    if not exact or (own is not None and kernel is None):
        return make_closed_form(noise, transform, sigma_a, kernel)
    if kernel is None:
        return make_table(noise, transform, sigma_a, low, high, recording)
    if isinstance(base, Gaussian):
        return _additive(base, kernel, read, transform, sigma_a, (low, high))
    return _blurred(base, kernel, read, transform, sigma_a, low, high)


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
    base, own, read = parts(noise)
    model = base if own is None else Correlated(base, own)

    def solve(y: Tensor, s: Tensor) -> Tensor:
        score = transform.raw_score(y, s)
        added = sigma_a**2 * transform.variance(y) * score
        if kernel is not None:
            y, added = kernel.apply(y), kernel.apply(added)
            score = kernel.transposed_undo(score)
        return model.solve(y + read**2 * score + added, score)

    return solve


def _additive(
    base: Gaussian,
    kernel: Kernel,
    read: float,
    transform: Transform,
    sigma_a: float,
    limits: tuple[float, float],
) -> Solver:
    def solve(w: Tensor, s: Tensor) -> Tensor:
        score = transform.raw_score(w, s)
        known = w + sigma_a**2 * transform.variance(w) * score
        if read:
            known = known + read**2 * kernel.whiten(score, 0.0)
        known = kernel.apply(known)
        # the noise of w is A⁻¹ Aᵀ ε, which is ε itself where A looks the same from opposite sides
        drift = score if kernel.even else kernel.apply(kernel.transposed_undo(score))
        return settle(
            base,
            kernel.apply(w),
            lambda variance: known + kernel.transposed(variance * drift),
            limits,
        )

    return solve


def _blurred(
    base: NoiseModel,
    kernel: Kernel,
    read: float,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
) -> Solver:
    if not read:
        return make_table(base, transform, sigma_a, low, high)
    # A⁻¹ gives all frequencies of the read noise at least this much
    white = 1 / kernel.largest**2
    table = make_table(base + Gaussian(read * white**0.5), transform, sigma_a, low, high)  # type: ignore[operator]

    def solve(w: Tensor, s: Tensor) -> Tensor:
        score = transform.raw_score(w, s)
        w = w + read**2 * kernel.whiten(score, white)
        return table(w, transform.own_score(w, score))

    return solve
