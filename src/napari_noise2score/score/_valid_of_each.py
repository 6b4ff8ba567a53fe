"""Look for the valid pixels of each of many images, when the image is first used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..image.axes import Layout
from ..image.valid import ValidPixels, look_for_valid


class ValidOfEach:
    """The valid pixels of each of many images, determined when an image is first used."""

    def __init__(self, images: Sequence[Any], layouts: Sequence[Layout]):
        self._images, self._layouts = images, layouts
        self._found: dict[int, ValidPixels] = {}

    def __getitem__(self, which: int) -> ValidPixels:
        if which not in self._found:
            # an image without a valid pixel is skipped
            axes = self._layouts[which].axes
            self._found[which], _ = look_for_valid(self._images[which], axes)
        return self._found[which]
