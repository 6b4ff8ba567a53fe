"""Define the score network: a residual U-Net in two or three dimensions, conditioned on σ_a.

It has no normalization layers: the result at a pixel depends only on its neighbourhood, not on the
rest of the tile, so that images can be cut into tiles anywhere.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..image.axes import MAX_CHANNELS
from .context import MAX_NEIGHBOURS

# of networks that are read from a file
MAX_WIDTH = 1024
MAX_DEPTH = 6


class Block(nn.Module):
    """Two convolutions added to their input; in 3-D only the first extends along Z."""

    def __init__(self, ndim: int, width: int):
        super().__init__()
        conv: Any = nn.Conv3d if ndim == 3 else nn.Conv2d
        flat = (1, 3, 3) if ndim == 3 else 3
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, flat, padding=(0, 1, 1) if ndim == 3 else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of the input, ``(n, width, *space)``."""
        features: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return features


class UNet(nn.Module):
    """Residual U-Net from an image and its perturbation σ_a to a value per pixel and channel.

    Parameters
    ----------
    ndim : {2, 3}
        Spatial dimensions. In 3-D only Y and X are halved, because images in microscopy usually
        have few planes along Z, far apart.
    channels : int
        Channels of the image, 1 to 4.
    width : int
        Number of features at full resolution; doubled at each halving.
    depth : int
        How many times Y and X are halved.
    predicts_error : bool
        Whether `with_error` predicts the squared error as well, see `Polish`.
    context_channels : int
        Further input channels, of the neighbours that the network sees.

    Notes
    -----
    The input has the channels of the image, the logarithm of σ_a and the context. The sizes along
    Y and X must be multiples of `stride`. Pixels within `radius` of the border are affected by it.

    Examples
    --------
    >>> net = UNet(ndim=2, channels=1, width=8, depth=2)
    >>> net(torch.zeros(1, 2, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(
        self,
        ndim: int = 2,
        channels: int = 1,
        width: int = 32,
        depth: int = 2,
        predicts_error: bool = False,
        context_channels: int = 0,
    ):
        super().__init__()
        self.ndim, self.channels, self.width, self.depth = ndim, channels, width, depth
        self.predicts_error, self.context_channels = predicts_error, context_channels
        conv: Any = nn.Conv3d if ndim == 3 else nn.Conv2d
        half = (1, 2, 2) if ndim == 3 else 2
        widths = [width * 2**i for i in range(depth + 1)]
        self.stem = conv(channels + 1 + context_channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(Block(ndim, w) for w in widths[:-1])
        self.down = nn.ModuleList(conv(a, b, half, stride=half) for a, b in pairwise(widths))
        self.middle = nn.Sequential(*(Block(ndim, widths[-1]) for _ in range(2)))
        # interpolating before a convolution, not a transposed one: no checkerboards
        self.up = nn.ModuleList(conv(b, a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(Block(ndim, w) for w in widths[:-1])
        self.head = conv(width, channels, 3, padding=1)
        self.error_head = conv(width, channels, 3, padding=1) if predicts_error else None

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the initial weights with a random generator."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                assert module.bias is not None
                fan_in = module.weight[0].numel()
                nn.init.uniform_(module.weight, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
                nn.init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
        # residual branches and results start at 0, for stability without normalization
        lasts: list[Any] = [m.second for m in self.modules() if isinstance(m, Block)]
        for last in [*self._heads(), *lasts]:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def _heads(self) -> list[Any]:
        """Return the last convolutions."""
        return [self.head] if self.error_head is None else [self.head, self.error_head]

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments that give a network of the same architecture."""
        names = ["ndim", "channels", "width", "depth"]
        # a network of the score is described as it was before there were two kinds
        names += ["predicts_error"] if self.predicts_error else []
        names += ["context_channels"] if self.context_channels else []
        return {name: getattr(self, name) for name in names}

    @classmethod
    def shapes(
        cls,
        ndim: int,
        channels: int,
        width: int,
        depth: int,
        predicts_error: bool = False,
        context_channels: int = 0,
    ) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of all weights of such a network; none are allocated.

        Raises
        ------
        ValueError
            If a size is not a whole number or is out of range.

        Examples
        --------
        >>> UNet.shapes(ndim=2, channels=1, width=8, depth=2)["head.weight"]
        (1, 8, 3, 3)
        """
        limits = {
            "ndim": (ndim, 2, 3),
            "channels": (channels, 1, MAX_CHANNELS),
            "width": (width, 1, MAX_WIDTH),
            "depth": (depth, 0, MAX_DEPTH),
            "context_channels": (context_channels, 0, 2 * MAX_CHANNELS * MAX_NEIGHBOURS),
        }
        for name, (value, lowest, highest) in limits.items():
            if type(value) is not int or not lowest <= value <= highest:
                raise ValueError(
                    f"{name} of the network is {value!r:.40}, not {lowest} to {highest}"
                )
        if not isinstance(predicts_error, bool):
            raise ValueError("predicts_error of the network must be true or false")
        with torch.device("meta"):
            network = cls(ndim, channels, width, depth, predicts_error, context_channels)
        return {key: tuple(weights.shape) for key, weights in network.state_dict().items()}

    @classmethod
    def empty(
        cls,
        ndim: int,
        channels: int,
        width: int,
        depth: int,
        predicts_error: bool = False,
        context_channels: int = 0,
    ) -> UNet:
        """Return a network with arbitrary weights; the global random generator is unchanged."""
        # creating it on the meta device would import sympy, which takes longer than the rest
        with torch.random.fork_rng(devices=[]):
            network: Any = cls(ndim, channels, width, depth, predicts_error, context_channels)
        # this memory format is up to twice as fast on a CPU, and not slower elsewhere
        last: Any = torch.channels_last if ndim == 2 else torch.channels_last_3d
        empty: UNet = network.to(memory_format=last)
        return empty

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the kernels of the hidden convolutions, and all other parameters."""
        ends = {id(layer.weight) for layer in [self.stem, *self._heads()]}
        inner = [p.ndim > 1 and id(p) not in ends for p in self.parameters()]
        both = list(zip(self.parameters(), inner, strict=True))
        return [p for p, is_inner in both if is_inner], [p for p, is_inner in both if not is_inner]

    @property
    def stride(self) -> tuple[int, ...]:
        """Number of which the size along each spatial axis must be a multiple."""
        halved = 2**self.depth
        return (1, halved, halved)[3 - self.ndim :]

    @property
    def radius(self) -> tuple[int, ...]:
        """Distance along each spatial axis within which a pixel influences others."""
        coarsest = 2**self.depth
        z = 2 + 2 * self.depth + 2
        # first and last convolution; a block of 2 pixels at each resolution of encoder and decoder;
        # two blocks in the middle; and the position of a pixel in its cell at the lowest resolution
        yx = 2 + 4 * (coarsest - 1) + 2 * 2 * coarsest + coarsest - 1
        return (z, yx, yx)[3 - self.ndim :]

    def forward(self, x: Tensor) -> Tensor:
        """Return a value per pixel and channel.

        Parameters
        ----------
        x : Tensor
            Image, logarithm of its σ_a and context, shape
            ``(n, channels + 1 + context channels, *space)``.

        Returns
        -------
        Tensor
            Shape ``(n, channels, *space)``.
        """
        out: Tensor = self.head(self._features(x))
        return out

    def with_error(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a value and the logarithm of its squared error per pixel and channel.

        Parameters
        ----------
        x : Tensor
            As for `forward`, of a network that predicts its error.

        Returns
        -------
        value, log_squared_error : Tensor
            Both of shape ``(n, channels, *space)``.
        """
        assert self.error_head is not None
        features = self._features(x)
        # without a gradient into the features: the value is the same whether its error is learned
        return self.head(features), self.error_head(features.detach())

    def _features(self, x: Tensor) -> Tensor:
        """Return the features before the last convolution, shape ``(n, width, *space)``."""
        x = self.stem(x)
        skips = []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        scale = (1.0, 2.0, 2.0) if self.ndim == 3 else 2.0
        for i in reversed(range(self.depth)):
            x = F.interpolate(self.up[i](x), scale_factor=scale, mode="nearest")
            x = self.decoder[i](x + skips[i])
        return x
