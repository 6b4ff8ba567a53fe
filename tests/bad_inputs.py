"""Define invalid inputs by name, as crashes, interrupted copies and typing errors produce them."""

# ruff: noqa: E501 - one case per line

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import tifffile
import zarr
from foreign import EXAMPLES

SHAPE = (3, 64, 72)


def noisy_stack(seed: int = 0) -> np.ndarray:
    """Return a realistic noisy stack, uint16, shape ``(3, 64, 72)``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]] / 9
    clean = 300 + 200 * np.sin(y) * np.cos(x)
    return np.rint(rng.normal(clean, 12, SHAPE)).clip(0, 65535).astype(np.uint16)


def tiff(path: Path, **options) -> bytes:
    """Write the stack as a TIFF file and return its bytes."""
    tifffile.imwrite(path, noisy_stack(), metadata={"axes": "TYX"}, **options)
    return path.read_bytes()


def truncated(fraction: float, **options) -> Callable[[Path], object]:
    """Write the first part of a TIFF file."""
    return lambda path: path.write_bytes(
        (data := tiff(path, **options))[: int(fraction * len(data))]
    )


def npy(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.save(path, array)


def half(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Write the first half of a file."""

    def write_half(path: Path) -> None:
        write(path)
        os.truncate(path, path.stat().st_size // 2)

    return write_half


def raw(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def npy_header(text: str, body: bytes = b"") -> Callable[[Path], object]:
    header = text.encode() + b"\n"
    return raw(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body)


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


def png(width: int, height: int, data: bytes = b"") -> Callable[[Path], object]:
    """Write a gray PNG whose header states a size, whether or not its data have it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return raw(b"\x89PNG\r\n\x1a\n" + chunks)


def ome(xml: str, array: np.ndarray | None = None) -> Callable[[Path], object]:
    """Write a TIFF with this text as its OME metadata."""

    def write(path: Path) -> None:
        pixels = noisy_stack()[0] if array is None else array
        tifffile.imwrite(path, pixels, description=xml, metadata=None)

    return write


def store(change: Callable[[Path], object], version: int = 3) -> Callable[[Path], object]:
    """Write an OME-Zarr image and change it."""

    def write(path: Path) -> None:
        from napari_noise2score import Image
        from napari_noise2score.image.write import write_image

        name = "0.5" if version == 3 else "0.4"
        write_image(path, Image(noisy_stack(), "TYX"), ome_zarr=name)
        change(path)

    return write


def metadata(text: str, name: str = "zarr.json") -> Callable[[Path], object]:
    return store(lambda path: (path / name).write_text(text), 3 if name == "zarr.json" else 2)


def array_json(**change) -> Callable[[Path], object]:
    """Write an OME-Zarr image with changed metadata of the full-resolution level."""

    def damage(path: Path) -> None:
        file = path / "0" / "zarr.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))

    return store(damage)


def multiscales(**change) -> Callable[[Path], object]:
    """Write an OME-Zarr image with changed multiscale metadata."""

    def damage(path: Path) -> None:
        file = path / "zarr.json"
        facts = json.loads(file.read_text())
        facts["attributes"]["ome"]["multiscales"][0] |= change
        file.write_text(json.dumps(facts))

    return store(damage)


def truncate_chunks(path: Path) -> None:
    """Truncate every chunk of a store to half its size."""
    for chunk in (path / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


def folder(**files: Callable[[Path], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.mkdir()
        for name, make in files.items():
            make(path / name.replace("__", "."))

    return write


NESTED = '{"a":' * 100_000
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + ']><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">&i;</OME>'
)
PIXELS = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="{kind}" SizeX="{x}" SizeY="64" SizeZ="{z}" '
    'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
)
MISSING_COMPANION = PIXELS.format(
    order="XYZCT", kind="uint16", x=72, z=2,
    data='<TiffData IFD="0" FirstZ="0"><UUID FileName="here.ome.tif">urn:uuid:1</UUID></TiffData>'
    '<TiffData IFD="0" FirstZ="1"><UUID FileName="gone.ome.tif">urn:uuid:2</UUID></TiffData>',
)  # fmt: skip

#: Every command must refuse the file that is written under each name. Its axes are YX or stated in
#: the file.
INPUTS: dict[str, Callable[[Path], object]] = {
    "empty.tif": raw(b""),
    "text.tif": raw(b"no picture at all"),
    "header.tif": raw(b"II*\0\x08\0\0\0"),
    "loop.tif": raw(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    "cut-imagej.tif": truncated(0.5, imagej=True),
    "cut-plain.tif": truncated(0.5),
    "cut-zlib.tif": truncated(0.5, compression="zlib"),
    "cut-tiled.tif": truncated(0.6, tile=(32, 32)),
    "cut-big.tif": truncated(0.5, bigtiff=True),
    "cut.ome.tif": truncated(0.5, ome=True),
    # a larger fraction cuts only bytes that nothing refers to
    "cut-last-bytes.tif": truncated(0.999, imagej=True),
    "bomb.ome.tif": ome(BOMB),
    "missing.ome.tif": ome(MISSING_COMPANION),
    "empty.png": raw(b""),
    "text.png": raw(b"no picture at all"),
    "huge.png": png(100_000, 100_000),
    "short.png": png(64, 64, b"\0" * 20),
    "cut.jpg": lambda path: (
        iio.imwrite(path, noisy_stack()[0].astype(np.uint8)),
        path.write_bytes(path.read_bytes()[:100]),
    ),
    "empty.npy": raw(b""),
    "text.npy": raw(b"no array at all"),
    "cut.npy": lambda path: (
        np.save(path, noisy_stack()[0]), path.write_bytes(path.read_bytes()[:-500]),
    ),
    "pickle.npy": pickled,
    "huge.npy": npy_header("{'descr': '<u2', 'fortran_order': False, 'shape': (10**6, 10**6)}"),
    "claims.npy": npy_header(
        "{'descr': '<u2', 'fortran_order': False, 'shape': (1000000, 1000000)}", b"\0" * 64
    ),
    "negative.npy": npy_header("{'descr': '<u2', 'fortran_order': False, 'shape': (-4, 4)}"),
    "nested.npy": npy_header("(" * 5000),
    "none.npy": npy(np.ones((0, 64), np.float32)),
    "scalar.npy": npy(np.float32(3)),
    "line.npy": npy(np.ones(64, np.float32)),
    "complex.npy": npy(np.ones((64, 64), complex)),
    "text-array.npy": npy(np.full((64, 64), "a")),
    "dates.npy": npy(np.zeros((64, 64), "datetime64[s]")),
    "record.npy": npy(np.zeros((64, 64), [("a", "f4"), ("b", "f4")])),
    "all-nan.npy": npy(np.full((64, 64), np.nan, np.float32)),
    "all-inf.npy": npy(np.full((64, 64), np.inf, np.float32)),
    "not-json.ome.zarr": metadata("{"),
    "nested.ome.zarr": metadata(NESTED),
    "list.ome.zarr": metadata("[]"),
    "null.ome.zarr": metadata("null"),
    "not-text.ome.zarr": store(lambda path: (path / "zarr.json").write_bytes(b"\xff\xfe\x00")),
    "no-level.ome.zarr": multiscales(datasets=[]),
    "lost-level.ome.zarr": multiscales(
        datasets=[{"path": "7", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]
    ),
    "outside.ome.zarr": multiscales(
        datasets=[
            {"path": "../../x", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
        ]
    ),
    "axes.ome.zarr": multiscales(axes=[{"name": "q", "type": "space"}] * 3),
    "few-axes.ome.zarr": multiscales(axes=[{"name": "y", "type": "space"}]),
    "number.ome.zarr": multiscales(axes=3),
    "shape.ome.zarr": array_json(shape="big"),
    "codec.ome.zarr": array_json(codecs=[{"name": "secret"}]),
    "type.ome.zarr": array_json(data_type="tensor"),
    "no-array.ome.zarr": store(lambda path: (path / "0" / "zarr.json").unlink()),
    "garbled.ome.zarr": store(truncate_chunks),
    "old-json.ome.zarr": metadata("{", ".zattrs"),
    "old-array.ome.zarr": store(lambda path: (path / "0" / ".zarray").write_text("{"), 2),
    "plain-folder.zarr": lambda path: path.mkdir(),
    "empty-folder": lambda path: path.mkdir(),
    "no-images": folder(note__txt=raw(b"hello")),
    "bad-folder": folder(a__tif=raw(b"broken"), b__tif=raw(b"broken")),
    "file.czi": raw(b"ZISRAWFILE"),
    **{f"text{suffix}": raw(b"no image at all") for suffix in EXAMPLES},
    **{f"cut{suffix}": half(write) for suffix, write in EXAMPLES.items()},
    "named.h5": lambda path: h5py.File(path, "w").close(),
    "file.xyz": raw(b"1 2 3"),
    "no-ending": raw(b"1 2 3"),
    "pipe.tif": lambda path: os.mkfifo(path),
}  # fmt: skip

#: Paths that do not exist or are not regular files.
NAMES = [
    "absent.tif", "absent/absent.tif", "text.tif/inside.tif", "absent-*.tif", "", " ", "\n", "a\x1b[31m.tif",
    "x" * 300 + ".tif", "nobody://x/y.zarr", "file:///absent.zarr", "local://absent.zarr", "/dev/null",
    "http://127.0.0.1:9/x.zarr", "s3:///", "[", "**/[", "~nobody/x.tif",
]  # fmt: skip


def model_header(change: Callable[[dict], object]) -> Callable[[Path, Path], object]:
    """Write a model with a changed header."""

    def write(good: Path, path: Path) -> None:
        data = good.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        outer = json.loads(data[8 : 8 + size])
        facts = json.loads(outer["__metadata__"]["napari-noise2score"])
        change(facts)
        outer["__metadata__"]["napari-noise2score"] = json.dumps(facts)
        header = json.dumps(outer).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])

    return write


def setting(*keys: str, to: object) -> Callable[[Path, Path], object]:
    """Write a model with one entry of its header set to a value."""

    def change(facts: dict) -> None:
        *outer, last = keys
        for key in outer:
            facts = facts[key]
        facts[last] = to

    return model_header(change)


def without(key: str) -> Callable[[Path, Path], object]:
    return model_header(lambda facts: facts.pop(key))


def altered(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], object]:
    return lambda good, path: path.write_bytes(change(good.read_bytes()))


def weights(value: float) -> Callable[[bytes], bytes]:
    return lambda data: data[:-4] + struct.pack("<f", value)


MODELS: dict[str, Callable[[Path, Path], object]] = {
    "empty": altered(lambda data: b""),
    "text": altered(lambda data: b"no model at all"),
    "cut": altered(lambda data: data[: len(data) // 2]),
    "cut-by-one": altered(lambda data: data[:-1]),
    "longer": altered(lambda data: data + b"\0"),
    "length": altered(lambda data: struct.pack("<Q", 2**60) + data[8:]),
    "nan-weight": altered(weights(float("nan"))),
    "other-weight": altered(weights(0.123)),
    "infinite-weight": altered(weights(float("inf"))),
    "newer": setting("format", to=999),
    "format-text": setting("format", to="x"),
    "ndim": setting("network", "ndim", to=7),
    "wide": setting("network", "width", to=10**9),
    "deep": setting("network", "depth", to=10**6),
    "negative": setting("network", "width", to=-4),
    "float-width": setting("network", "width", to=8.5),
    "channels": setting("network", "channels", to=2),
    "network": setting("network", to=None),
    "mean-nan": setting("mean", to=float("nan")),
    "mean-text": setting("mean", to="high"),
    "scale-0": setting("scale", to=0),
    "scale-negative": setting("scale", to=-1.0),
    "sigma-a": setting("sigma_a", to=-1),
    "sigma-a-range": setting("sigma_a_range", to=[3]),
    "low-high": setting("low", to=1e30),
    "axes": setting("axes", to="QQ"),
    "axes-number": setting("axes", to=3),
    "joint": setting("joint", to="yes"),
    "name": setting("name", to=3),
    "provenance": setting("provenance", to=[1]),
    "transform": setting("transform", "c0", to=-5),
    "transform-nan": setting("transform", "c1", to=float("nan")),
    "transform-extra": setting("transform", "c9", to=1),
    "kernel": setting("kernel", to=[[0.0]]),
    "kernel-text": setting("kernel", to="A"),
    "recording": setting("recording", to={"step": "x"}),
    "no-mean": without("mean"),
    "no-network": without("network"),
    "no-transform": without("transform"),
    "nested-header": altered(lambda data: struct.pack("<Q", 200_000) + b'{"a":' * 40_000 + data),
    "pickle": altered(lambda data: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00"),
    "zip": altered(lambda data: zipped()),
}


def zipped() -> bytes:
    """Return a zip archive with a pickle, as torch writes it."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    return memory.getvalue()


NOISES = [
    "", " ", "x", "gaussian", "gaussian(", "gaussian)", "gaussian()", "gaussian(sigma)", "gaussian(=5)",
    "gaussian(sigma=)", "gaussian(sigma=five)", "gaussian(sigma=-5)", "gaussian(sigma=0)",
    "gaussian(sigma=nan)", "gaussian(sigma=inf)", "gaussian(sigma=1e300)", "gaussian(sigma=1e-320)",
    "gaussian(sigma=5, sigma=6)", "gaussian(width=5)", "gausian(sigma=5)", "gaussian(sigma=5", "poisson()",
    "poisson(gain=0)", "poisson(gain=-1)", "poisson(gain=1e300)", "poisson(gain=2, offset=nan)",
    "poisson(gain=2, offset=1e300)", "poisson(gain=2) +", "poisson(gain=2) + poisson(gain=2)",
    "poisson(gain=2) + gaussian(sigma=-1)", "poisson(gain=2) + gaussian(sigma=1) + gaussian(sigma=1)",
    "poisson(gain=2) @", "poisson(gain=2) @ B", "poisson(gain=2) @ kernel([[1, 2])", "poisson(gain=2) @ kernel()",
    "poisson(gain=2) @ kernel([[0]])", "poisson(gain=2) @ kernel([[nan]])", "gamma(alpha=0)", "gamma(alpha=1e300)",
    "rayleigh(sigma=-1)", "nakagami(m=0)", "rician(sigma=0)", "tweedie(power=0, dispersion=3)",
    "tweedie(power=1.5, dispersion=-3)", "emccd(gain=0)", "emccd(gain=20, excess=0)", "empirical()",
    "empirical(file=absent.npz)", "empirical(file=/dev/null)", "empirical(file=.)", "gaussian(sigma=5);rm -rf",
    "__import__('os')", "gaussian(sigma=5)\0x", "gaussian(sigma=١)x", "(" * 10_000,
    "gaussian(sigma=" + "9" * 5000 + ")", "a" * 100_000, "gaussian(sigma=5) " + "+" * 50_000,
]  # fmt: skip

CONFIGS = {
    "absent": None,
    "not-yaml": b"steps: [",
    "list": b"- steps\n- 3\n",
    "text": b"just text",
    "unknown": b"stepz: 3\n",
    "negative": b"steps: -3\n",
    "zero": b"minutes: 0\n",
    "nan": b"minutes: .nan\n",
    "infinite": b"minutes: .inf\n",
    "huge-minutes": b"minutes: 1.0e+300\n",
    "huge-steps": b"steps: 1000000000000000000000000000000\n",
    "word": b"steps: many\n",
    "seed": b"seed: 100000000000000000000000000000000000\n",
    "negative-seed": b"seed: -1\n",
    "ndim": b"ndim: 4\n",
    "number-key": b"3: 4\n",
    "null-key": b"~: 4\n",
    "list-key": b"? [a, b]\n: 4\n",
    "map-key": b"? {a: b}\n: 4\n",
    "tag": b"steps: !!python/object/apply:os.system ['true']\n",
    "tag-key": b"!!python/name:os.system : 3\n",
    "twice": b"steps: 3\nsteps: 4\n",
    "binary": b"\xff\xfe\x00\x01",
    "control": b"steps: \x07\n",
    "nested": b"[" * 20_000,
    "aliases": b"a: &a [x]\n" + b"".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n".encode()
        for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    ),
    "device": b"device: abacus\n",
    "axes": b"axes: QQ\n",
    "correlation": b"correlation: sideways\n",
    "two-documents": b"steps: 3\n---\nsteps: 4\n",
    "tab": b"steps:\t3\n\tx: 4\n",
}  # fmt: skip

#: Options that the command must refuse although image and model are valid.
OPTIONS = [
    ("denoise", "--tile", "0x0"), ("denoise", "--tile", "-8x-8"), ("denoise", "--tile", "x"),
    ("denoise", "--tile", "8"), ("denoise", "--tile", "8x8x8"), ("denoise", "--tile", "1e3x1e3"),
    ("denoise", "--tile", "8x8x"), ("denoise", "--tile", ""), ("denoise", "--tile", "９x９x９"),
    ("denoise", "--tile", "99999999999999999999999x64"),
    ("denoise", "--dtype", "int"), ("denoise", "--dtype", ""), ("denoise", "--device", "abacus"),
    ("denoise", "--device", ""), ("denoise", "--device", "cuda:99"), ("denoise", "--device", "meta"),
    ("denoise", "--axes", "QYX"), ("denoise", "--axes", "YX"), ("denoise", "--axes", "YYX"),
    ("denoise", "--axes", ""), ("denoise", "--axes", "TYXTYX"), ("denoise", "--ome-zarr", "9"),
    ("denoise", "--workers", "0"), ("denoise", "--workers", "-1"), ("denoise", "--workers", "two"),
    ("denoise", "--workers", "2"), ("denoise", "--scheduler", "nowhere"), ("denoise", "--bogus"),
    ("denoise", "--scheduler", "tcp://127.0.0.1:9"), ("denoise", "--scheduler", ""),
    ("train", "--steps", "0"), ("train", "--steps", "-1"), ("train", "--steps", "many"),
    ("train", "--steps", "1.5"), ("train", "--steps", "9" * 40), ("train", "--minutes", "0"),
    ("train", "--minutes", "-1"), ("train", "--minutes", "nan"), ("train", "--minutes", "inf"),
    ("train", "--seed", "-1"), ("train", "--seed", "9" * 40), ("train", "--ndim", "1"),
    ("train", "--ndim", "3"), ("train", "--ndim", "two"), ("train", "--axes", "TYQ"),
    ("train", "--axes", "T"), ("train", "--device", "abacus"), ("train", "--correlation", "B"),
    ("train", "--correlation", "kernel([[0]])"), ("train", "--correlation", "kernel([[1, 1, 1]])"),
    ("train", "--correlation", "kernel([[1e300]])"), ("train", "--correlation", ""),
    ("train", "--config", "absent.yml"), ("train", "--steps"), ("train", "--bogus"),
    ("estimate", "--axes", "QYX"), ("estimate", "--method", "curve"), ("estimate", "--bogus"),
    ("estimate", "--noise", "x"), ("estimate", "--model", "absent.n2s"),
    ("simulate", "--seed", "-1"), ("simulate", "--seed", "x"), ("simulate", "--axes", "QYX"),
    ("simulate", "--bogus"), ("evaluate", "--data-range", "0"), ("evaluate", "--data-range", "-5"),
    ("evaluate", "--data-range", "nan"), ("evaluate", "--data-range", "inf"),
    ("evaluate", "--data-range", "wide"), ("evaluate", "--axes", "QYX"), ("evaluate", "--bogus"),
]  # fmt: skip

#: Paths to which no result can be written.
OUTPUTS = [
    "/dev/null", "/dev/full", "/proc/x{ending}", "{inputs}/good.tif", "{inputs}/good.tif/x{ending}",
    "{inputs}/absent/../good.tif", "{inputs}/hard-link.tif", "{inputs}/soft-link.tif", "{inputs}/folder",
    "{inputs}/store.ome.zarr/x{ending}", "{inputs}/store.ome.zarr/0/x{ending}", "{inputs}", "{inputs}/pipe{ending}",
    "{inputs}/dangling{ending}", "{out}/" + "x" * 260 + "{ending}", "{out}/" + "é" * 125 + "{ending}",
    "{out}/x.jpg", "{out}/x.gif", "{out}/x", "{out}/x.tif.gz", "http://127.0.0.1/x{ending}", "s3://b/x{ending}",
    "file://{inputs}/good.tif", "local://{inputs}/good.tif", "{inputs}/there{ending}", ".", "", "/",
]  # fmt: skip
ENDINGS = (".tif", ".ome.tif", ".npy", ".png", ".zarr", ".ome.zarr")


def make_store(path: Path) -> None:
    """Write a good OME-Zarr image."""
    store(lambda _: None)(path)


def make_array(path: Path) -> None:
    """Write a good zarr array."""
    zarr.save_array(str(path), noisy_stack())
