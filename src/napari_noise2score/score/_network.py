"""The network: a residual U-Net in two or three dimensions that is told how much noise was added.

It has no normalisation layers: a pixel's result depends on its neighbourhood alone, never on
what else is in the tile, so a large image can be cut wherever one likes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..image.axes import MAX_CHANNELS

# of networks that are read from a file: far beyond what is trained here
MAX_WIDTH = 1024
MAX_DEPTH = 6


class Block(nn.Module):
    """Two convolutions added to their input; in 3-D only the first one looks along z."""

    def __init__(self, ndim: int, width: int):
        super().__init__()
        conv: Any = nn.Conv3d if ndim == 3 else nn.Conv2d
        flat = (1, 3, 3) if ndim == 3 else 3
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, flat, padding=(0, 1, 1) if ndim == 3 else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Give features of the shape of those put in."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class UNet(nn.Module):
    """Residual U-Net from an image and a noise level to a value per pixel and channel.

    Parameters
    ----------
    ndim : {2, 3}
        Spatial dimensions. In 3-D only Y and X are halved: z is short and coarse in microscopy.
    channels : int
        Channels in and out, 1 to 4.
    width : int
        Features at full resolution; doubled at each halving.
    depth : int
        How many times Y and X are halved.

    Notes
    -----
    The input carries one channel more than the output: the logarithm of the added noise σ_a.
    Y and X must be multiples of `stride`, and everything within `radius` of the border is
    affected by the border.

    Examples
    --------
    >>> net = UNet(ndim=2, channels=1, width=8, depth=2)
    >>> net(torch.zeros(1, 2, 16, 16)).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(self, ndim: int = 2, channels: int = 1, width: int = 32, depth: int = 2):
        super().__init__()
        self.ndim, self.channels, self.width, self.depth = ndim, channels, width, depth
        conv: Any = nn.Conv3d if ndim == 3 else nn.Conv2d
        half = (1, 2, 2) if ndim == 3 else 2
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = conv(channels + 1, width, 3, padding=1)
        self.encoder = nn.ModuleList(Block(ndim, w) for w in widths[:-1])
        self.down = nn.ModuleList(conv(a, b, half, stride=half) for a, b in pairwise(widths))
        self.middle = nn.Sequential(*(Block(ndim, widths[-1]) for _ in range(2)))
        # interpolating before a convolution, not a transposed one: no checkerboards
        self.up = nn.ModuleList(conv(b, a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(Block(ndim, w) for w in widths[:-1])
        self.head = conv(width, channels, 3, padding=1)

    def initialise(self, source: torch.Generator) -> None:
        """Draw the first weights from this source of chance alone."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                assert module.bias is not None
                fan_in = module.weight[0].numel()
                nn.init.uniform_(module.weight, -(fan_in**-0.5), fan_in**-0.5, generator=source)
                nn.init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5, generator=source)
        # residual branches and the score itself start at nothing: stable without normalisation
        lasts: list[Any] = [m.second for m in self.modules() if isinstance(m, Block)]
        for last in [self.head, *lasts]:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @classmethod
    def shapes(cls, ndim: int, channels: int, width: int, depth: int) -> dict[str, tuple[int, ...]]:
        """Return name and shape of all weights of such a network; no memory is taken for it.

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
        }
        for name, (value, least, most) in limits.items():
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"a network of {name} {value!r:.40}, not {least} to {most}")
        with torch.device("meta"):
            network = cls(ndim, channels, width, depth)
        return {key: tuple(weights.shape) for key, weights in network.state_dict().items()}

    @classmethod
    def empty(cls, ndim: int, channels: int, width: int, depth: int) -> UNet:
        """Give a network whose weights are still to be filled in; no chance is used up."""
        # to make it on no device and empty it imports sympy, which takes longer than all else
        with torch.random.fork_rng(devices=[]):
            network: Any = cls(ndim, channels, width, depth)
        # channels last is up to twice as fast on a CPU, and no slower elsewhere
        last: Any = torch.channels_last if ndim == 2 else torch.channels_last_3d
        return network.to(memory_format=last)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Give the kernels that lie between features, and all other parameters."""
        ends = {id(self.stem.weight), id(self.head.weight)}
        inner = [p.ndim > 1 and id(p) not in ends for p in self.parameters()]
        both = list(zip(self.parameters(), inner, strict=True))
        return [p for p, is_inner in both if is_inner], [p for p, is_inner in both if not is_inner]

    @property
    def stride(self) -> tuple[int, ...]:
        """What the size along each spatial axis must be a multiple of."""
        halved = 2**self.depth
        return (1, halved, halved)[3 - self.ndim :]

    @property
    def radius(self) -> tuple[int, ...]:
        """How far along each spatial axis a pixel can influence another."""
        coarsest = 2**self.depth
        z = 2 + 2 * self.depth + 2
        # first and last convolution; two blocks of two pixels at each level on the way down and
        # up; two in the middle; and where in its cell of the coarsest level the pixel lies
        yx = 2 + 4 * (coarsest - 1) + 2 * 2 * coarsest + coarsest - 1
        return (z, yx, yx)[3 - self.ndim :]

    def forward(self, x: Tensor) -> Tensor:
        """Give a value per pixel and channel, from an image and its σ_a."""
        x = self.stem(x)
        skips = []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        scale = (1.0, 2.0, 2.0) if self.ndim == 3 else 2.0
        for level in reversed(range(self.depth)):
            x = F.interpolate(self.up[level](x), scale_factor=scale, mode="nearest")
            x = self.decoder[level](x + skips[level])
        return self.head(x)
