"""Models that take minutes to train are kept between runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_noise2score import ScoreModel


def kept(folder: Path | None, name: str, make: Callable[[], ScoreModel]) -> ScoreModel:
    """Take a model from a folder, or make it and, if there is a folder, keep it there."""
    path = folder and folder / f"{name}.n2s"
    if path and path.exists():
        return ScoreModel.load(path)
    model = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return model
