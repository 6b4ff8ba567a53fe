"""Measure how soon a training starts on a file with 2 GiB of pixels, and in how much memory.

``python benchmarks/large_files.py [FOLDER] [nii mrc h5 ims czi lif dcm scan]`` writes a file of
each format to the folder, and removes it; CZI needs pylibCZIrw.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import mrcfile
import nibabel as nib
import numpy as np
from table import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from foreign import write_lif, write_slice

COUNT, SIDE = 1024, 1024  # planes, and pixels along Y and X
MEASURED = """
import sys, time
from napari_noise2score import read_image
from napari_noise2score.score.training import train_steps
begin = time.time()
image = read_image(sys.argv[1])
opened = time.time() - begin
middle = tuple(n // 2 for n in image.data.shape[:-2])
image.data[(*middle, slice(100, 164), slice(100, 164))]
crop = time.time() - begin - opened
first = None
for progress in train_steps(image, steps=2, name="m"):
    if first is None and progress.result is not None and progress.result.step > 0:
        first = time.time() - begin
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(f"{opened:.2f}|{crop:.3f}|{first:.1f}|{int(peak) >> 10}")
"""


def planes() -> Iterator[np.ndarray]:
    """Yield noisy planes, uint16."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE] / 40
    clean = 300 + 200 * np.sin(y) * np.cos(x)
    noisy = [np.rint(rng.normal(clean, 12)).astype("<u2") for _ in range(8)]
    for i in range(COUNT):
        yield np.roll(noisy[i % 8], 13 * i % 512, 1)


def append(path: Path) -> None:
    """Append all planes to a file, uncompressed."""
    with open(path, "ab") as file:
        file.writelines(plane.tobytes() for plane in planes())


def write_nii(path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((SIDE, SIDE, COUNT))
    header.set_data_dtype("<u2")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(header.binaryblock + bytes(4))
    append(path)


def write_mrc(path: Path) -> None:
    with mrcfile.new_mmap(path, (COUNT, SIDE, SIDE), mrc_mode=6) as file:
        for i, plane in enumerate(planes()):
            file.data[i] = plane


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        shape = COUNT, SIDE, SIDE
        array = file.create_dataset("raw", shape, "<u2", chunks=(1, 256, 256), compression="lzf")
        for i, plane in enumerate(planes()):
            array[i] = plane
        for dim, label in zip(array.dims, "zyx", strict=True):
            dim.label = label


def write_ims(path: Path) -> None:
    def text(value: object) -> np.ndarray:
        return np.array([c.encode() for c in str(value)], "S1")

    with h5py.File(path, "w") as file:
        for axis, n in zip("XYZ", (SIDE, SIDE, COUNT), strict=True):
            file.require_group("DataSetInfo/Image").attrs[axis] = text(n)
        group = file.create_group("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0")
        shape, chunks = (COUNT, SIDE, SIDE), (8, 256, 256)
        array = group.create_dataset(
            "Data", shape, "<u2", chunks=chunks, compression="gzip", compression_opts=1
        )
        stack = np.empty((8, SIDE, SIDE), "<u2")
        for i, plane in enumerate(planes()):
            stack[i % 8] = plane
            if i % 8 == 7:
                array[i - 7 : i + 1] = stack


def write_czi(path: Path) -> None:
    from pylibCZIrw import czi

    options = "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack"
    with czi.create_czi(str(path), compression_options=options) as file:
        for i, plane in enumerate(planes()):
            file.write(np.ascontiguousarray(plane)[..., None], plane={"T": 0, "C": 0, "Z": i})


def write_large_lif(path: Path) -> None:
    class Header:
        """Shape and strides of an array without its pixels, which are appended."""

        ndim, shape, nbytes = 3, (COUNT, SIDE, SIDE), 2 * COUNT * SIDE**2
        strides = 2 * SIDE**2, 2 * SIDE, 2

        def tobytes(self) -> bytes:
            return b""

    write_lif(path, {"a": Header()}, "ZYX")  # type: ignore[dict-item]
    append(path)


def write_dcm(path: Path) -> None:
    write_slice(path, np.zeros((2, 4, SIDE), "<u2"), NumberOfFrames=COUNT, FrameTime=10, Rows=SIDE)
    head = path.read_bytes()[: -2 * 2 * 4 * SIDE - 4]
    path.write_bytes(head + struct.pack("<I", 2 * COUNT * SIDE**2))
    append(path)


def write_scan(path: Path) -> None:
    path.mkdir()
    for i, plane in enumerate(planes()):
        where = {"ImagePositionPatient": [0, 0, float(i)], "SeriesInstanceUID": "1.2.3"}
        write_slice(path / f"IM{i:04d}", plane, **where)


WRITERS = {
    "nii": write_nii, "mrc": write_mrc, "h5": write_h5, "ims": write_ims, "czi": write_czi,
    "lif": write_large_lif, "dcm": write_dcm, "scan": write_scan,
}  # fmt: skip


def main(folder: str = "", *kinds: str) -> None:
    add = table(
        "large_files", "format", "open (s)", "crop (s)", "first step (s)", "peak memory (MiB)"
    )
    for kind in kinds or WRITERS:
        with tempfile.TemporaryDirectory(dir=folder or None) as place:
            path = Path(place) / f"a.{kind}"
            WRITERS[kind](path)
            # a process of its own, whose memory is its own
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, path], capture_output=True, text=True, check=False
            )
            add(kind, *(done.stdout.strip() or done.stderr[-300:]).split("|"))
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
