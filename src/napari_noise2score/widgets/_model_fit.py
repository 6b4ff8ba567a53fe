"""Whether a model fits a layer: its axes, channels, pixel size and grey levels."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive

from ..errors import DataWarning, UserError, one_line
from ._message import Message
from ._work import Failure, message_of, start

if TYPE_CHECKING:
    import napari.viewer

    from ..score.model import ScoreModel
    from ._source import Source


class ModelFit(Message):
    """Say whether a model fits a layer, and what to do if not; nothing if it does.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    """

    def __init__(self, viewer: napari.viewer.Viewer):
        super().__init__(viewer, "Whether the model fits the layer, and what to do if not.")
        self._worker: Any = None

    def compare(self, source: Source | None, model: ScoreModel | None) -> None:
        """Look at the grey levels of a layer in the background, then say whether a model fits."""
        if self._worker is not None:
            self._worker.quit()
        self.say("")
        if source is None or model is None:
            return
        found: list[str] = []

        def add(text: str) -> None:
            if isalive(self) and self._worker is worker and text not in found:
                found.append(text)
                self.say("\n⚠ ".join(found), "warning")

        def fail(failure: Failure | None) -> None:
            if failure is not None and isinstance(failure.error, UserError):
                add(message_of(failure.error))

        def warn(warning: tuple[Any, ...]) -> None:
            if isinstance(warning[0], DataWarning):
                add(one_line(warning[0]))

        def finish() -> None:
            if isalive(self):
                self.destroyed.disconnect(worker.quit)
                self._worker = None if self._worker is worker else self._worker

        self._worker = worker = start(
            _compare(source, model),
            yielded=lambda _: None,
            returned=fail,
            warned=warn,
            finished=finish,
        )
        self.destroyed.connect(worker.quit)


def _compare(source: Source, model: ScoreModel) -> Generator[None, None, None]:
    """Compare a layer with the images that a model was trained on: axes, channels, grey levels."""
    from ..denoising.grey_level_range import check_range
    from ..denoising.job import fit_layout, in_channel
    from ..image.axes import layout
    from ..image.pixel import PIXEL, other_pixel_size
    from ..score.correction import corrected_image, learned_corrections

    image = source.image()
    if text := other_pixel_size(model.provenance.get(PIXEL), image):
        warnings.warn(text, DataWarning, stacklevel=2)
    where = fit_layout(layout(source.axes, source.data.shape, model.ndim), model)
    data = corrected_image(image, learned_corrections(model), fills=True).data
    yield None
    count = len(model.channel_coordinates)
    if not count:
        check_range(data, where, model)
    for channel in range(count):
        with in_channel(channel, count):
            check_range(data, where, model.of_channel(channel), None, channel)
        yield None
