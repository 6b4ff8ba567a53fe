"""A model file with randomly flipped bits is refused, or its scores are unchanged.

``NOISE2SCORE_FUZZ=10000 pytest tests/test_fuzz_models.py`` tries more files.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from test_model_file import small_model

from napari_noise2score import ScoreModel, UserError

N_FILES = int(os.environ.get("NOISE2SCORE_FUZZ", "3000"))
MAX_FLIPPED_BITS = 4


def test_a_model_with_flipped_bits_is_refused_or_gives_the_same_scores(tmp_path):
    path = tmp_path / "m.n2s"
    small_model().save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    y = torch.linspace(80, 240, 64).reshape(1, 1, 8, 8)
    scores = ScoreModel.load(path).score(y)
    rng = np.random.default_rng(0)
    header = int.from_bytes(content[:8].tobytes(), "little")
    n_loaded = 0
    for attempt in range(N_FILES):
        broken = content.copy()
        # flip bits of the header in every second file, as it is small
        end = 8 + header if attempt % 2 else len(content)
        positions = rng.integers(0, end, rng.integers(1, MAX_FLIPPED_BITS + 1))
        broken[positions] ^= (1 << rng.integers(0, 8, len(positions))).astype(np.uint8)
        path.write_bytes(broken.tobytes())
        try:
            model = ScoreModel.load(path)
        except UserError as error:
            assert str(error).isprintable()
            continue
        n_loaded += 1
        assert torch.equal(model.score(y), scores)
        assert model.describe() == small_model().describe()
    assert n_loaded < 0.01 * N_FILES  # those whose bits were flipped back
