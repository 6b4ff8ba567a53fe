"""Choose a channel, and edit its part of a noise model of several channels."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Signal

from ..errors import UserError
from ..noise.parse import parse_noise
from ..noise.per_channel import PerChannel
from ._eliding import ElidingComboBox

TIP = "All channels at once, or one of them: each may have a noise model of its own."


class ChannelChoice(ElidingComboBox):
    """Choose all channels of an image, or one of them."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(TIP)
        self.setAccessibleName("Channel")
        self._names: list[str] = []
        self.set_names([])
        self.currentIndexChanged.connect(lambda _: self.changed.emit())

    @property
    def count_channels(self) -> int:
        """The number of channels of the image."""
        return len(self._names)

    @property
    def channel(self) -> int | None:
        """Number of the chosen channel, from 0; None for all."""
        at = self.currentIndex()
        return at - 1 if at > 0 else None

    def choose(self, channel: int | None) -> None:
        """Choose a channel, or all."""
        self.setCurrentIndex(0 if channel is None else channel + 1)

    def set_names(self, names: Sequence[str]) -> None:
        """Offer these channels; all of them are chosen if their number changes."""
        before = self.channel if len(names) == len(self._names) else None
        self._names = list(names)
        with QSignalBlocker(self):
            self.clear()
            self.addItem("all channels")
            for number, name in enumerate(names, 1):
                self.addItem(f"{number}: {name}" if name else f"channel {number}")
            self.choose(before)

    def part_of(self, noise: str) -> str:
        """Return the noise model of the chosen channel, or of all of them."""
        if self.channel is None:
            return noise
        try:
            return str(parse_noise(noise).for_channels(self.count_channels)[self.channel])
        except UserError:
            return noise

    def with_part(self, noise: str, part: str) -> str:
        """Return a noise model in which that of the chosen channel, or of all, is replaced."""
        if self.channel is None:
            return part
        try:
            each = [str(own) for own in parse_noise(noise).for_channels(self.count_channels)]
        except UserError:
            each = [part] * self.count_channels
        each[self.channel] = part
        return each[0] if len(set(each)) == 1 else " ; ".join(each)


def is_per_channel(noise: str) -> bool:
    """Return whether a text names a noise model for each channel.

    Examples
    --------
    >>> is_per_channel("gaussian(sigma=2) ; gaussian(sigma=3)"), is_per_channel("gaussian(sigma=")
    (True, False)
    """
    try:
        return isinstance(parse_noise(noise), PerChannel)
    except UserError:
        return False
