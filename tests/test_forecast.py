"""How long learning still pays is predicted in words that say how far the prediction goes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.window


@pytest.mark.parametrize(
    ("slope", "expected"), [(0.003, "more than 4 min"), (0.0, "good enough now")]
)
def test_a_prediction_that_ends_at_its_limit_says_more_than(slope, expected):
    from napari_noise2score.widgets._training import Begun

    times = [10.0 * n for n in range(1, 9)]
    # some seconds after the loss was last measured
    state = SimpleNamespace(step=100, seconds=88.0)
    begun = Begun(None, {}, {}, last=state, times=times, losses=[-0.2 - slope * t for t in times])
    assert expected in begun.describe()
