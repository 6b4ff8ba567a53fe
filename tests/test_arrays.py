"""Any kind of array is accepted as an image, or refused in one line."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from dask.callbacks import Callback
from numpy.lib.stride_tricks import as_strided
from test_model_file import small_model

from napari_noise2score import (
    Image,
    UserError,
    check_noise,
    denoise,
    estimate_noise,
    read_image,
    train,
    uncertainty,
    write_image,
)
from napari_noise2score.image.arrays import as_image_array, read_piece
from napari_noise2score.image.image import as_image, as_images

RNG = np.random.default_rng(0)
PLANE = RNG.normal(150, 12, (32, 32)).round()
NOISE = "gaussian(sigma=12)"


class SliceOnlyArray:
    """Offer shape, type and slices only, as a data set of h5py does."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, index):
        return self.values[index]


class ArrayProtocolOnly:
    """Offer ``__array__`` only."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


def memory_map(tmp_path, values):
    file = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", values.dtype, values.shape)
    file[:] = values
    return np.load(tmp_path / "a.npy", mmap_mode="r")


KINDS = {
    "float64": lambda pixels, folder: pixels,
    "float32": lambda pixels, folder: pixels.astype(np.float32),
    "float16": lambda pixels, folder: pixels.astype(np.float16),
    "longdouble": lambda pixels, folder: pixels.astype(np.longdouble),
    "uint8": lambda pixels, folder: pixels.astype(np.uint8),
    "int64": lambda pixels, folder: pixels.astype(np.int64),
    "uint64": lambda pixels, folder: pixels.astype(np.uint64),
    "big-endian integers": lambda pixels, folder: pixels.astype(">u2"),
    "big-endian floats": lambda pixels, folder: pixels.astype(">f4"),
    "flipped": lambda pixels, folder: np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1],
    "flipped, float32": lambda pixels, folder: np.ascontiguousarray(pixels[::-1].astype("f4"))[
        ::-1
    ],
    "Fortran order": lambda pixels, folder: np.asfortranarray(pixels),
    "read-only": lambda pixels, folder: as_strided(pixels, writeable=False),
    "matrix": lambda pixels, folder: np.asmatrix(pixels),
    "lists": lambda pixels, folder: pixels.tolist(),
    "tuples": lambda pixels, folder: tuple(map(tuple, pixels.tolist())),
    "list of rows": lambda pixels, folder: [row.tolist() for row in pixels],
    "masked, nothing masked": lambda pixels, folder: np.ma.array(pixels),
    "memory map": lambda pixels, folder: memory_map(folder, pixels),
    "dask": lambda pixels, folder: da.from_array(pixels, (10, 20)),
    "zarr": lambda pixels, folder: zarr.create_array(
        str(folder / "a.zarr"), data=pixels, chunks=(16, 16)
    ),
    "torch": lambda pixels, folder: torch.from_numpy(pixels),
    "torch float16": lambda pixels, folder: torch.from_numpy(pixels).half(),
    "torch bfloat16": lambda pixels, folder: torch.from_numpy(pixels).bfloat16(),
    "torch with gradients": lambda pixels, folder: torch.from_numpy(pixels).requires_grad_(),
    "torch, negated": lambda pixels, folder: torch._neg_view(torch.from_numpy(-pixels)),
    "torch uint8": lambda pixels, folder: torch.from_numpy(pixels.astype(np.uint8)),
    "only sliced": lambda pixels, folder: SliceOnlyArray(pixels),
    "only converted": lambda pixels, folder: ArrayProtocolOnly(pixels),
    "Image": lambda pixels, folder: Image(pixels, "YX"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_same_result(kind, tmp_path):
    model = small_model()
    expected = np.asarray(denoise(PLANE, model, NOISE))
    result = denoise(KINDS[kind](PLANE, tmp_path), model, NOISE)
    result = np.asarray(result.data if kind == "Image" else result)
    # bfloat16 resolves one grey level at 150
    assert np.allclose(result, expected, atol=2 if "bfloat" in kind else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lists", "big-endian floats", "torch", "flipped", "longdouble"])
def test_every_function_accepts_every_kind_of_array(kind, tmp_path):
    stack = np.stack([RNG.normal(150, 12, (128, 128)).round() for _ in range(2)])
    data = KINDS[kind](stack, tmp_path)
    model = train(data, axes="TYX", steps=1)
    assert np.asarray(uncertainty(data, model, NOISE, axes="TYX")[0]).shape == (128, 128)
    assert str(estimate_noise(data, axes="TYX").noise) == str(
        estimate_noise(stack, axes="TYX").noise
    )
    check = check_noise(data, NOISE, axes="TYX")
    assert check.summary == check_noise(stack, NOISE, axes="TYX").summary
    write_image(tmp_path / "out.npy", Image(data, "TYX"))
    assert np.array_equal(read_image(tmp_path / "out.npy", "TYX").data, stack)


def test_training_uses_the_axes_of_images():
    stack = RNG.normal(150, 12, (2, 3, 24, 24))
    by_axes = train(stack, axes="CTYX", steps=1)
    assert train(Image(stack, "CTYX"), steps=1).fingerprint == by_axes.fingerprint
    assert train([Image(stack, "CTYX")], steps=1).axes == "CTYX"
    both = [Image(stack, "CTYX"), stack[:, 0]]
    assert train(both, axes=["CTYX", "CYX"], steps=1, channels="joint").channels == 2
    with pytest.raises(UserError, match="axes='ZYX'"):
        train(stack, steps=1)
    with pytest.raises(UserError, match="2 axes are given for 1"):
        train([Image(stack, "CTYX")], axes=["CTYX", "YX"], steps=1)


NOT_IMAGES = {
    "true and false": np.zeros((8, 8), bool),
    "complex": np.zeros((8, 8), complex),
    "objects": np.full((8, 8), None),
    "fields": np.zeros((8, 8), [("a", "f4"), ("b", "f4")]),
    "dates": np.zeros((8, 8), "M8[s]"),
    "times": np.zeros((8, 8), "m8[s]"),
    "texts": np.full((8, 8), "a"),
    "no dimension": np.float32(3),
    "an array of no dimension": np.array(3.0),
    "a number": 3,
    "a line": np.zeros(8),
    "nothing": None,
    "a name": "stack.tif",
    "bytes": b"stack",
    "a mapping": {"data": np.zeros((8, 8))},
    "a generator": (i for i in range(3)),
    "a function": len,
    "ragged": [[1, 2], [3]],
    "lists of texts": [["1", "2"], ["3", "4"]],
    "empty": np.zeros((0, 8)),
    "empty list": [],
    "list of nothing": [None],
    "sparse": torch.eye(8).to_sparse(),
    "complex torch": torch.zeros(8, 8, dtype=torch.complex64),
    "true torch": torch.zeros(8, 8, dtype=torch.bool),
    "meta torch": torch.zeros(8, 8, device="meta"),
    "unknown size": da.from_array(PLANE, (8, 8))[da.from_array(PLANE[:, 0] > 150, 8)],
    "complex dask": da.zeros((8, 8), dtype=complex),
    "a class": np.ndarray,
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_every_function_refuses_what_is_no_image_in_one_line(kind):
    calls = [
        lambda: denoise(NOT_IMAGES[kind], small_model(), NOISE),
        lambda: uncertainty(NOT_IMAGES[kind], small_model(), NOISE),
        lambda: train(NOT_IMAGES[kind], steps=1),
        lambda: estimate_noise(NOT_IMAGES[kind]),
        lambda: check_noise(NOT_IMAGES[kind], NOISE),
    ]
    if kind != "a line":
        calls.append(lambda: Image(NOT_IMAGES[kind], "YX"))
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).isprintable()


def test_an_unknown_size_is_refused_with_the_method_to_call():
    with pytest.raises(UserError, match=r"compute_chunk_sizes\(\)"):
        as_image_array(NOT_IMAGES["unknown size"])
    assert as_image_array(NOT_IMAGES["unknown size"].compute_chunk_sizes()).shape[1] == 32


def test_a_lazy_array_is_not_read_when_it_is_checked():
    def fail(block):
        raise AssertionError

    lazy = da.map_blocks(fail, da.zeros((64, 64)), dtype=np.float32, meta=np.empty((0, 0)))
    assert as_image_array(lazy) is lazy
    assert as_image(lazy).data is lazy
    assert [image.axes for image in as_images([lazy, lazy])] == ["YX", "YX"]


@pytest.mark.slow
def test_computing_dask_arrays_triggers_no_global_callbacks(tmp_path):
    seen = []
    stack = np.stack([RNG.normal(150, 12, (128, 128)).round() for _ in range(2)])
    lazy = da.from_array(stack, (1, 64, 64))
    with Callback(start=lambda graph: seen.append(graph)), dask.config.set(scheduler="threads"):
        read_piece(lazy, (0, slice(0, 3)))
        model = train(lazy, axes="TYX", steps=1)
        estimate_noise(lazy, axes="TYX")
        check_noise(lazy, NOISE, axes="TYX", model=model)
        write_image(tmp_path / "out.tif", Image(lazy, "TYX"))
    assert seen == []


def test_xarray_provides_axes_and_pixel_size():
    xarray = pytest.importorskip("xarray")
    stack = RNG.normal(150, 12, (3, 16, 16))
    coordinates = {"time": [0.0, 2.0, 4.0], "y": 5 + 0.1 * np.arange(16), "x": 0.2 * np.arange(16)}
    image = as_image(xarray.DataArray(stack, coordinates, ("time", "y", "x")))
    assert image.axes == "TYX"
    assert image.scale == pytest.approx({"T": 2, "Y": 0.1, "X": 0.2})
    assert image.translate == pytest.approx({"T": 0, "Y": 5, "X": 0})
    lazy = xarray.DataArray(da.from_array(stack, (1, 8, 8)), dims=("z", "lat", "lon"))
    assert as_image(lazy).axes == "ZYX"
    assert as_image(lazy, "TYX").axes == "TYX"
    result = denoise(lazy[0], small_model(), NOISE)
    assert np.allclose(result.compute(), denoise(stack[0], small_model(), NOISE).compute())
    with pytest.raises(UserError, match="choose one of its variables"):
        as_image(xarray.Dataset({"a": lazy}))
    with pytest.raises(UserError, match="say which they are"):
        as_image(xarray.DataArray(stack, dims=("pressure", "lat", "lon")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_tensor_on_a_gpu_is_accepted():
    assert np.array_equal(as_image_array(torch.from_numpy(PLANE).cuda()), PLANE)
