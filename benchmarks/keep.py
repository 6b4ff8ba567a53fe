"""Keep trained models between runs, as training takes minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_noise2score import ScoreModel


def load_or_train(
    folder: Path | None, name: str, train_model: Callable[[], ScoreModel]
) -> ScoreModel:
    """Load a model from a folder, or train it and save it there if a folder is given."""
    path = folder and folder / f"{name}.n2s"
    if path and path.exists():
        return ScoreModel.load(path)
    model = train_model()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return model
