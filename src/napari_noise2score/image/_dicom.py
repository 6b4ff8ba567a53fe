"""Read DICOM by pydicom: single files, multi-frame files, and folders that hold series.

Only the tags that describe pixels and geometry are read, so that no data of a patient can get into
a result, a log or a message.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataWarning, ReadError, UserError
from ._format import Format, axes_of, choose_series
from ._raw import RawArray
from ._stack import Stack, cut_short, stamp_of
from ._units import number_of, size_of
from .guard import Guarded, check_size, sized
from .image import Image

SUFFIXES = (".dcm", ".ima")
MAGIC, MAGIC_AT = b"DICM", 128
MAX_FRAMES = 4  # decoded frames that are kept
MAX_UNEVEN = 0.02  # relative difference of the distances between slices
TAGS = [
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "NumberOfFrames", "RescaleSlope", "RescaleIntercept",
    "PixelSpacing", "ImagerPixelSpacing", "SpacingBetweenSlices", "ImagePositionPatient",
    "ImageOrientationPatient", "InstanceNumber", "SeriesInstanceUID", "SeriesNumber",
    "TemporalPositionIdentifier", "FrameTime", "GridFrameOffsetVector",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class _Frame:
    """One plane: where its pixels are, what they mean, and where in the patient it is.

    ``offset`` is None if it must be decoded; ``stored`` is the range of stored values;
    ``position`` is the corner in millimetres, and ``order`` what frames at one place are sorted by.
    """

    path: Path
    number: int
    offset: int | None
    shape: tuple[int, ...]
    dtype: np.dtype
    stored: tuple[int, int]
    inverted: bool
    slope: float
    intercept: float
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    step: tuple[str, float] | None
    order: tuple[int, int, int]
    series: tuple[Any, ...]


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, or a folder holds DICOM files."""
    if path.is_dir():
        first = next(iter(_names(path)), None)
        return first is not None and is_dicom(path / first)
    try:
        with open(path, "rb") as file:
            return file.read(MAGIC_AT + len(MAGIC)).endswith(MAGIC)
    except OSError:
        return False


def read_dicom(path: Path, axes: str | None, series: int | None = None) -> Image:
    """Open a DICOM file, or a series of a folder, lazily; see `read_image`.

    Values are rescaled to the unit of the modality, such as Hounsfield units. Frames at different
    positions are ``Z``; several at one position are ``T`` if they are numbered in time, otherwise
    ``S``.
    """
    listed = _series(path, _stamps(path))
    at = choose_series(path, [name for name, _ in listed], series)
    frames = listed[at][1]
    first = frames[0]
    letters, counts, frames, steps = _arrange(path, frames)
    rgb = len(first.shape) > 2
    shape = (*counts, *first.shape)
    dtype = _dtype(frames)
    check_size(path, shape, dtype, first.shape)
    read = partial(_read, tuple(frames), counts, dtype)
    chunks = (*(1 for _ in counts), *first.shape)
    if first.inverted:
        warnings.warn(
            f"{path}: stored with white as zero (MONOCHROME1); its grey levels are inverted",
            DataWarning,
            stacklevel=2,
        )
    files = sorted({str(frame.path) for frame in frames})
    scale = dict(zip("YX", first.spacing, strict=False)) | steps
    units = {a: "second" if a == "T" else "millimeter" for a in scale}
    affine = _affine(letters, counts, frames)
    stack = Stack(shape, dtype, len(counts), read, chunks)
    return Image(
        Guarded(stack, str(path), sized(files)),
        axes_of(path, axes, letters + ("YXC" if rgb else "YX"), len(shape)),
        scale=scale,
        units=units,
        rgb=rgb,
        name=(path.name if path.is_dir() else path.stem)
        + (f" {at + 1}" if len(listed) > 1 else ""),
        header={} if affine is None else {"affine": affine},
        files=tuple(files),
    )


def count_dicom(path: Path) -> int:
    """Return the number of series in a folder; 1 for a file."""
    return len(_series(path, _stamps(path)))


def _names(folder: Path) -> list[str]:
    """Return the names of the files in a folder that may be DICOM."""
    found = []
    for entry in os.scandir(folder):
        name, ending = entry.name, entry.name.lower().rpartition(".")[2]
        plain = ending == entry.name.lower() or ending.isdigit()
        if (plain or name.lower().endswith(SUFFIXES)) and name[0] != "." and name != "DICOMDIR":
            found += [name] if entry.is_file() else []
    return sorted(found)


def _stamps(path: Path) -> tuple[tuple[str, tuple[int, int]], ...]:
    """Return the files of an input with their stamps."""
    files = [path / name for name in _names(path)] if path.is_dir() else [path]
    return tuple((str(file.resolve()), stamp_of(file)) for file in files)


@lru_cache(maxsize=4)
def _series(
    path: Path, files: tuple[tuple[str, tuple[int, int]], ...]
) -> tuple[tuple[str, list[_Frame]], ...]:
    """Return the name and the frames of each series, by their number."""
    found: dict[tuple[Any, ...], list[_Frame]] = {}
    for name, _ in files:
        if len(files) == 1 or is_dicom(Path(name)):
            for frame in _frames(Path(name)):
                found.setdefault(frame.series, []).append(frame)
    if not found:
        raise ReadError(f"{path}: holds no DICOM image")
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    return tuple((f"series {key[0]}" if key[0] else "", frames) for key, frames in ordered)


def _frames(path: Path) -> Iterator[_Frame]:
    """Yield the frames of a file; none if it holds no image, such as a report."""
    import pydicom
    from pydicom.uid import UncompressedTransferSyntaxes

    with warnings.catch_warnings(), open(path, "rb") as file:
        warnings.simplefilter("ignore")  # odd values of a tag are checked where they matter
        about: Any = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS)
        at = file.tell()
    if "Rows" not in about or "BitsAllocated" not in about:
        return
    photometric, bits = str(about.get("PhotometricInterpretation")), int(about.BitsAllocated)
    samples = int(about.get("SamplesPerPixel") or 1)
    if bits not in (8, 16, 32) or photometric == "PALETTE COLOR":
        kind = "a mask of single bits" if bits == 1 else f"{photometric} of {bits} bits"
        raise UserError(f"{path}: {kind}, not grey levels or colours that can be denoised")
    shape = (int(about.Rows), int(about.Columns), *((samples,) if samples > 1 else ()))
    signed = bool(about.get("PixelRepresentation"))
    syntax = about.file_meta.TransferSyntaxUID
    dtype = np.dtype(
        f"{'<' if syntax.is_little_endian else '>'}{'i' if signed else 'u'}{bits // 8}"
    )
    count = int(number_of(about.get("NumberOfFrames")) or 1)
    offset = None
    plain = syntax in UncompressedTransferSyntaxes and not syntax.is_deflated
    if plain and samples == 1 and photometric in GREY:
        offset = at + (8 if syntax.is_implicit_VR else 12)
        end = offset + count * int(np.prod(shape)) * dtype.itemsize
        if (size := path.stat().st_size) < end:
            raise ReadError(cut_short(path, size, end))
    depth = int(about.get("BitsStored") or bits)
    stored = (-(2 ** (depth - 1)), 2 ** (depth - 1) - 1) if signed else (0, 2**depth - 1)
    for number in range(count):
        groups = _groups(about, number)
        slope, intercept = _rescaling(groups)
        spacing, orientation, position = _geometry(groups)
        one_file = path.name if count > 1 else ""
        series = (about.get("SeriesNumber"), str(about.get("SeriesInstanceUID")), shape,
                  tuple(round(v, 3) for v in orientation), one_file)  # fmt: skip
        yield _Frame(
            path, number, offset, shape, dtype, stored, photometric == "MONOCHROME1", slope,
            intercept, spacing, orientation, position, _step(about, count),
            _order(about, groups, number), series,
        )  # fmt: skip


def _groups(about: Any, number: int) -> list[Any]:
    """Return the data sets that describe a frame, the most specific first."""
    found = []
    for name, i in (
        ("PerFrameFunctionalGroupsSequence", number),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        sequence = about.get(name)
        if sequence is not None and i < len(sequence):
            found += [item for part in sequence[i] if part.VR == "SQ" for item in part.value[:1]]
    return [*found, about]


def _value(groups: Sequence[Any], name: str) -> Any:
    return next((group.get(name) for group in groups if group.get(name) not in (None, "")), None)


def _numbers(groups: Sequence[Any], name: str, count: int) -> tuple[float, ...]:
    """Return a tag of several numbers, empty if it is absent or damaged."""
    value = _value(groups, name)
    listed = [number_of(v) for v in value] if isinstance(value, Sequence) else []
    return tuple(v for v in listed if v is not None) if len(listed) == count else ()


def _rescaling(groups: Sequence[Any]) -> tuple[float, float]:
    slope, intercept = (number_of(_value(groups, f"Rescale{n}")) for n in ("Slope", "Intercept"))
    return slope or 1.0, intercept or 0.0


def _geometry(
    groups: Sequence[Any],
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return the distances between rows and columns, the directions of both, and the corner."""
    spacing = _numbers(groups, "PixelSpacing", 2) or _numbers(groups, "ImagerPixelSpacing", 2)
    orientation = _numbers(groups, "ImageOrientationPatient", 6)
    return spacing, orientation, _numbers(groups, "ImagePositionPatient", 3)


def _step(about: Any, count: int) -> tuple[str, float] | None:
    """Return the axis along which frames of a file follow each other, and the distance."""
    offsets = _numbers([about], "GridFrameOffsetVector", count)
    if count > 1 and len(offsets) == count:
        return "Z", (offsets[-1] - offsets[0]) / (count - 1)
    time = number_of(about.get("FrameTime"))
    return ("T", time / 1000) if count > 1 and time else None


def _order(about: Any, groups: Sequence[Any], number: int) -> tuple[int, int, int]:
    time, instance = (
        number_of(_value(source, name))
        for source, name in ((groups, "TemporalPositionIdentifier"), ([about], "InstanceNumber"))
    )
    return int(time or 0), int(instance or 0), number


def _arrange(
    path: Path, frames: Sequence[_Frame]
) -> tuple[str, tuple[int, ...], list[_Frame], dict[str, float]]:
    """Return the looped axes, their sizes, the frames in this order, and the steps."""
    frames = sorted(frames, key=lambda frame: frame.order)
    count = len(frames)
    if count == 1:
        return "", (), frames, {}
    depths = _depths(frames)
    places = sorted(set(depths or ()))
    if len(places) > 1 and count % len(places) == 0:
        repeats = count // len(places)
        stacks = [[f for f, d in zip(frames, depths, strict=True) if d == p] for p in places]
        if all(len(stack) == repeats for stack in stacks):
            gaps = np.diff(places)
            if np.ptp(gaps) > MAX_UNEVEN * gaps.mean():
                warnings.warn(
                    f"{path}: its slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart; some "
                    "may be missing",
                    DataWarning,
                    stacklevel=2,
                )
            steps = {"Z": float(f"{gaps.mean():.7g}")}
            if repeats == 1:
                return "Z", (count,), [stack[0] for stack in stacks], steps
            timed = len({frame.order[0] for frame in frames}) == repeats
            loops = [stack[i] for i in range(repeats) for stack in stacks]
            return ("T" if timed else "S") + "Z", (repeats, len(places)), loops, steps
    if (step := frames[0].step) is not None:
        size = size_of(abs(step[1]))
        return step[0], (count,), frames, {step[0]: size} if size else {}
    return "S", (count,), frames, {}


def _depths(frames: Sequence[_Frame]) -> list[float]:
    """Return the position of each frame along the normal of the planes, empty if unknown."""
    if not all(frame.position and frame.orientation for frame in frames):
        return []
    rows = np.asarray(frames[0].orientation).reshape(2, 3)
    normal = np.cross(rows[0], rows[1])
    return [round(float(normal @ frame.position), 3) for frame in frames]


def _affine(letters: str, counts: tuple[int, ...], frames: Sequence[_Frame]) -> np.ndarray | None:
    """Return the affine of NIfTI, from indices (X, Y, Z) to millimetres; None if unknown."""
    first = frames[0]
    if not (first.position and first.orientation and first.spacing):
        return None
    rows = np.asarray(first.orientation).reshape(2, 3)
    between = np.cross(rows[0], rows[1])
    if letters.endswith("Z") and frames[counts[-1] - 1].position:
        last = frames[counts[-1] - 1].position
        between = np.subtract(last, first.position) / (counts[-1] - 1)
        if not between.any():  # a distance is given instead
            between = np.cross(rows[0], rows[1]) * (first.step or ("Z", 1.0))[1]
    affine = np.eye(4)
    affine[:3] = np.stack(
        [rows[0] * first.spacing[1], rows[1] * first.spacing[0], between, first.position], axis=1
    )
    affine[:2] *= -1  # DICOM counts to the left and to the back
    return affine


def _dtype(frames: Sequence[_Frame]) -> np.dtype:
    """Return the type of rescaled values: integers if all of them are, otherwise float32."""
    shifts = {frame.intercept for frame in frames}
    if any(frame.slope != 1 for frame in frames) or any(shift % 1 for shift in shifts):
        return np.dtype("float32")
    native = frames[0].dtype.newbyteorder("=")
    if shifts == {0.0}:
        return native
    low = min(frame.stored[0] for frame in frames) + min(shifts)
    high = max(frame.stored[1] for frame in frames) + max(shifts)
    fitting = (
        np.dtype(kind)
        for kind in (native, "int16", "int32", "int64")
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )
    return next(fitting, np.dtype("float64"))


def _read(
    frames: tuple[_Frame, ...],
    counts: tuple[int, ...],
    dtype: np.dtype,
    at: tuple[int, ...],
    inside: tuple[slice, ...],
) -> np.ndarray:
    """Read a part of a frame, and rescale it."""
    frame = frames[int(np.ravel_multi_index(at, counts)) if counts else 0]
    if frame.offset is not None:
        place = frame.offset + frame.number * int(np.prod(frame.shape)) * frame.dtype.itemsize
        values = RawArray(frame.path, frame.dtype, frame.shape, place)[inside]
    else:
        values = _decode(frame.path, stamp_of(frame.path), frame.number)[inside]
    if frame.inverted:
        values = sum(frame.stored) - values.astype(np.int64)
    if (frame.slope, frame.intercept) != (1.0, 0.0):
        values = values.astype(np.float64) * frame.slope + frame.intercept
    return values.astype(dtype, copy=False)


@lru_cache(maxsize=MAX_FRAMES)
def _decode(path: Path, stamp: tuple[int, int], number: int) -> np.ndarray:  # noqa: ARG001
    # the stamp is part of the cache's key only
    import pydicom
    from pydicom.pixels.utils import pixel_array

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return pixel_array(path, index=number)
            except (AttributeError, ValueError):
                # a data set that is compressed itself, or an unusual table of frames
                about: Any = pydicom.dcmread(path)
                return np.asarray(pixel_array(about, index=number))
    except (RuntimeError, NotImplementedError):
        raise ReadError(
            f"{path}: its compressed pixels cannot be decoded: damaged, or of a kind that needs a "
            "decoder (pip install pylibjpeg[all])"
        ) from None


FORMAT = Format(
    "DICOM",
    SUFFIXES,
    read_dicom,
    count_dicom,
    library="pydicom",
    recognizes=is_dicom,
    result=".nii",
)
