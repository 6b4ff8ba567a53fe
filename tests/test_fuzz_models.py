"""Bits of a model file are turned at random: it is refused, or its scores are the same.

``NOISE2SCORE_FUZZ=10000 pytest tests/test_fuzz_models.py`` tries more of them.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from test_model_file import small_model

from napari_noise2score import ScoreModel, UserError

# files that are tried
FLIPS = int(os.environ.get("NOISE2SCORE_FUZZ", "3000"))
MAX_BITS = 4


def test_a_model_whose_bits_are_turned_is_refused_or_gives_the_same_scores(tmp_path):
    path = tmp_path / "m.n2s"
    small_model().save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    y = torch.linspace(80, 240, 64).reshape(1, 1, 8, 8)
    scores = ScoreModel.load(path).score(y)
    rng = np.random.default_rng(0)
    header = int.from_bytes(content[:8].tobytes(), "little")
    read = 0
    for attempt in range(FLIPS):
        broken = content.copy()
        # the header is a small part of most files, and most of what may go wrong
        end = 8 + header if attempt % 2 else len(content)
        places = rng.integers(0, end, rng.integers(1, MAX_BITS + 1))
        broken[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
        path.write_bytes(broken.tobytes())
        try:
            model = ScoreModel.load(path)
        except UserError as error:
            assert str(error).isprintable()
            continue
        read += 1
        assert torch.equal(model.score(y), scores)
        assert model.describe() == small_model().describe()
    assert read < 0.01 * FLIPS  # of bits that are turned and turned back
