"""Decide whether all channels have one noise model, and combine what is found for each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from ..denoising.job import in_channel
from ..errors import DataWarning, ReadError, UserError
from ..image.channel import channel_of, count_channels
from ..image.image import Image
from ..noise import PerChannel
from ..score.coordinates import MAX_SEPARATE_CHANNELS
from ._check_variance import compare_variance
from ._from_images import ImageEstimate, estimate_from_frames
from ._read_frames import read_scenes
from .goodness_of_fit import NoiseCheck
from .noise_report import NoiseReport

# Two noise models that explain so much of the noise of each other's channel are one.
MIN_EXPLAINED_OF_OTHER = 0.95


def common_channels(images: Sequence[Image]) -> int:
    """Return the number of channels that all images have, 1 if they differ."""
    counts = {count_channels(image) for image in images}
    return counts.pop() if len(counts) == 1 else 1


def images_of_channel(images: Sequence[Image], channel: int) -> list[Image]:
    """Return one channel of each image."""
    return [channel_of(image, channel) for image in images]


def have_one_model(images: Sequence[Image], repeats: str) -> tuple[bool, str]:
    """Return whether one noise model serves all channels, and why, in one sentence.

    Parameters
    ----------
    images : sequence of Image
        Images of the same number of channels.
    repeats : str
        Axis of the repeats of a scene.
    """
    count = common_channels(images)
    if count == 1:
        return True, ""
    if count > MAX_SEPARATE_CHANNELS:
        return True, f"one noise model for all {count} channels, which were not compared"
    found = []
    for channel in range(count):
        try:
            with in_channel(channel, count):
                scenes, _ = read_scenes(images_of_channel(images, channel), repeats)
                found.append(estimate_from_frames(scenes))
        except ReadError:
            raise
        except UserError as error:
            text = f"one noise model for all channels, as one has no estimate of its own: {error}"
            warnings.warn(text, DataWarning, stacklevel=2)
            return True, text
    if all(_agree(first, second) for first, second in combinations(found, 2)):
        return True, f"one noise model for all {count} channels, whose estimates agree"
    return False, f"one noise model for each of the {count} channels, whose estimates differ"


def _agree(first: ImageEstimate, second: ImageEstimate) -> bool:
    """Return whether two estimates agree within their intervals, or nearly."""
    one, other = first.fits[0].intervals, second.fits[0].intervals
    same_family = type(first.fits[0].noise) is type(second.fits[0].noise) and set(one) == set(other)
    if same_family and all(
        one[name][0] <= other[name][1] and other[name][0] <= one[name][1] for name in one
    ):
        return True
    kernels = (first.noise.components.kernel, second.noise.components.kernel)
    if (kernels[0] is None) != (kernels[1] is None):
        return False
    explained = (
        compare_variance(first, second.noise).explained,
        compare_variance(second, first.noise).explained,
    )
    return min(explained) >= MIN_EXPLAINED_OF_OTHER


def combine(reports: Sequence[NoiseReport], sentence: str) -> NoiseReport:
    """Return the report on all channels, whose check and polish are those of the worst one.

    Parameters
    ----------
    reports : sequence of NoiseReport
        Those of the channels.
    sentence : str
        Why each channel has a model of its own.
    """
    count = len(reports)
    checks = [report.check for report in reports if report.check is not None]
    failed = [f"channel {c}: {r.check_error}" for c, r in enumerate(reports, 1) if r.check_error]
    methods = list(dict.fromkeys(report.method for report in reports))
    needs = [report.polish for report in reports if report.polish is not None]
    lines = [
        f"channel {c}: {line}" for c, report in enumerate(reports, 1) for line in report.left_out
    ]
    return NoiseReport(
        PerChannel(tuple(report.noise for report in reports)),
        method=", ".join(methods),
        check=worst(checks) if len(checks) == count else None,
        check_error="; ".join(failed),
        source=", ".join(dict.fromkeys(report.source for report in reports)),
        left_out=tuple(lines),
        polish=next((need for need in needs if need.pays), needs[0] if needs else None),
        notes={"noise found by": ", ".join(methods)},
        channels=tuple(reports),
        channels_sentence=sentence,
    )


def worst(checks: Sequence[NoiseCheck]) -> NoiseCheck:
    """Return the check of the channel that its model explains least."""
    *_, channel = min((c.explains, c.curve.explained, number) for number, c in enumerate(checks))
    check = checks[channel]
    noises = tuple(each.noise for each in checks)
    return replace(check, channel=channel, channels=len(checks), of_channels=noises)
