"""Everything in a model file is checked, and an invalid file is refused in one line."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_noise2score import Empirical, ScoreModel, UserError, parse_noise, train_steps
from napari_noise2score.noise.kernel import A
from napari_noise2score.score._evaluate import network_with
from napari_noise2score.score._network import UNet
from napari_noise2score.score._tensor_file import CHECKSUM_KEY, FORMAT, KEY, _metadata
from napari_noise2score.solve.quantization import Quantization
from napari_noise2score.solve.transform import Transform


def small_model(**changes):
    """Return a model with the smallest possible network and random weights."""
    network = UNet.empty(2, 1, 1, 0)
    generator = torch.Generator().manual_seed(0)
    network.initialize(generator)
    weights = {
        k: v + 0.1 * torch.randn(v.shape, generator=generator)
        for k, v in network.state_dict().items()
    }
    facts = {
        "network": network_with(network, weights, "cpu"),
        "transform": Transform(90, 9, 2, 0),
        "mean": 10.0,
        "scale": 4.0,
        "sigma_a": 0.3,
        "sigma_a_range": (0.3, 0.7),
        "low": 92.0,
        "high": 225.0,
        "quantization": Quantization(1.0, 0.0, 0.0),
        "kernel": None,
        "axes": "TYX",
        "joint": False,
        "name": "small",
        "provenance": {"seed": 0, "loss": -0.9},
    }
    return ScoreModel(**(facts | changes))


def refusal(call, *args):
    """Return the message with which a call is refused."""
    with pytest.raises(UserError) as caught:
        call(*args)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "m.n2s"
    small_model().save(path)
    return path


def rewrite(path, change, tensors=None):
    """Change the header of a file, and write it with a valid checksum."""
    weights = load_file(path) if tensors is None else tensors
    header = header_of(path)
    change(header)
    save_file(weights, path, metadata=_metadata(weights, header))


def header_of(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])


def put(*keys, value):
    """Return a function that sets one entry of a header."""

    def change(header):
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


def drop(*keys):
    """Return a function that removes one entry of a header."""

    def change(header):
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


BAD_HEADERS = {
    "ndim": put("network", "ndim", value=4),
    "ndim as text": put("network", "ndim", value="2"),
    "ndim true": put("network", "ndim", value=True),
    "channels": put("network", "channels", value=5),
    "channels 0": put("network", "channels", value=0),
    "width": put("network", "width", value=2),
    "width huge": put("network", "width", value=10**9),
    "width beyond 64 bits": put("network", "width", value=10**40),
    "width not whole": put("network", "width", value=1.0),
    "depth": put("network", "depth", value=1),
    "depth huge": put("network", "depth", value=10**6),
    "depth negative": put("network", "depth", value=-1),
    "network a list": put("network", value=[2, 1, 1, 0]),
    "network gone": drop("network"),
    "extra entry of network": put("network", "kind", value="other"),
    "mean a text": put("mean", value="10"),
    "mean null": put("mean", value=None),
    "mean a list": put("mean", value=[10]),
    "mean gone": drop("mean"),
    "scale 0": put("scale", value=0),
    "scale negative": put("scale", value=-4.0),
    "scale true": put("scale", value=True),
    "sigma_a 0": put("sigma_a", value=0),
    "sigma_a beyond": put("sigma_a", value=3.0),
    "sigma_a_range reversed": put("sigma_a_range", value=[0.7, 0.3]),
    "sigma_a_range short": put("sigma_a_range", value=[0.3]),
    "sigma_a_range a text": put("sigma_a_range", value="0.3"),
    "sigma_a_range wide": put("sigma_a_range", value=[0.3, 1e9]),
    "low above high": put("low", value=300),
    "low is high": put("low", value=225),
    "low a mapping": put("low", value={}),
    "transform gone": drop("transform"),
    "transform short": drop("transform", "c1"),
    "transform falls": put("transform", "c1", value=-2.0),
    "transform flat": put("transform", "c0", value=0),
    "transform overflows": put("transform", "c2", value=1e300),
    "transform too flat": put("transform", "c0", value=1e70),
    "transform a number": put("transform", value=3),
    "start a text": put("transform", "start", value="90"),
    "recording gone": drop("recording"),
    "step negative": put("recording", "step", value=-1),
    "step a text": put("recording", "step", value="1"),
    "floor above ceiling": put("recording", "ceiling", value=-1),
    "extra entry of recording": put("recording", "bits", value=12),
    "kernel a number": put("kernel", value=3),
    "kernel of texts": put("kernel", value=[["1"]]),
    "kernel even": put("kernel", value=[[1, 2]]),
    "kernel ragged": put("kernel", value=[[0, 1, 0], [1]]),
    "kernel not invertible": put("kernel", value=[[1, 1, 1]]),
    "kernel huge": put("kernel", value=[[0] * 500 + [1] + [0] * 500]),
    "axes": put("axes", value="TYQ"),
    "axes without X": put("axes", value="TY"),
    "axes a number": put("axes", value=3),
    "axes twice": put("axes", value="YYX"),
    "axes lower case": put("axes", value="tyx"),
    "axes gone": drop("axes"),
    "joint a number": put("joint", value=1),
    "joint without C": put("joint", value=True),
    "name a number": put("name", value=3),
    "name too long": put("name", value="a" * 10_000),
    "provenance a list": put("provenance", value=[1]),
    "provenance a text": put("provenance", value="me"),
    "format a text": put("format", value="1"),
    "format 0": put("format", value=0),
    "format true": put("format", value=True),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_header_with_an_impossible_value_is_refused(model_file, case):
    rewrite(model_file, BAD_HEADERS[case])
    assert str(model_file) in refusal(ScoreModel.load, model_file)


def test_a_valid_header_is_read(model_file):
    rewrite(model_file, lambda header: None)
    assert ScoreModel.load(model_file).describe() == small_model().describe()


def test_every_attribute_of_a_model_is_saved(tmp_path):
    model = small_model(kernel=A, quantization=Quantization(), provenance={"a": [1, {"b": None}]})
    model.save(tmp_path / "m.n2s")
    back = ScoreModel.load(tmp_path / "m.n2s")
    assert (back.kernel, back.quantization, back.provenance) == (
        A,
        Quantization(),
        model.provenance,
    )
    assert back.fingerprint == model.fingerprint


def test_provenance_cannot_replace_facts_of_the_model():
    model = small_model(provenance={"grey levels": "0 to 1", "seed": 7})
    assert model.describe()["grey levels"].startswith("92 to 225")
    assert model.describe()["seed"] == 7


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_provenance_that_is_not_plain_json_is_not_written(tmp_path, value):
    model = small_model(provenance={"value": value})
    assert "plain JSON" in refusal(model.save, tmp_path / "m.n2s")
    assert list(tmp_path.iterdir()) == []


BAD_TEXTS = {
    "NaN": lambda t: t.replace('"mean": 10.0', '"mean": NaN'),
    "Infinity": lambda t: t.replace('"high": 225.0', '"high": Infinity'),
    "1e999": lambda t: t.replace('"high": 225.0', '"high": 1e999'),
    "1e999 in the provenance": lambda t: t.replace('"loss": -0.9', '"loss": 1e999'),
    "twice": lambda t: t.replace('"mean": 10.0', '"mean": 10.0, "mean": 11.0'),
    "10000 digits": lambda t: t.replace('"mean": 10.0', '"mean": ' + "1" * 10_000),
    "nested": lambda t: t.replace('"seed": 0', '"seed": ' + "[" * 100_000 + "]" * 100_000),
    "nested 60 deep": lambda t: t.replace('"seed": 0', '"seed": ' + "[" * 60 + "]" * 60),
    "cut": lambda t: t[:-5],
    "a list": lambda t: "[1, 2]",
    "a number": lambda t: "1",
    "nothing": lambda t: "",
    "null": lambda t: "null",
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_header_that_is_not_plain_json_is_refused(model_file, case):
    weights = load_file(model_file)
    text = json.dumps(header_of(model_file))
    save_file(weights, model_file, metadata={KEY: BAD_TEXTS[case](text)})
    refusal(ScoreModel.load, model_file)


def test_a_header_of_wrong_encoding_or_size_is_refused(model_file):
    content = model_file.read_bytes()
    model_file.write_bytes(struct.pack("<Q", 2**40) + content[8:])
    refusal(ScoreModel.load, model_file)
    model_file.write_bytes(struct.pack("<Q", 2**62) + content[8:])
    refusal(ScoreModel.load, model_file)
    huge = b'{"a":' + b" " * 2**25 + b"1}"
    model_file.write_bytes(struct.pack("<Q", len(huge)) + huge)
    refusal(ScoreModel.load, model_file)
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    model_file.write_bytes(struct.pack("<Q", len(deep)) + deep)
    refusal(ScoreModel.load, model_file)
    model_file.write_bytes(content.replace(b"small", b"sma\xff\xfe"))
    refusal(ScoreModel.load, model_file)


def test_tensors_that_do_not_fit_the_network_are_refused(model_file):
    weights = load_file(model_file)
    first = "stem.weight"
    for tensors in (
        {k: v for k, v in weights.items() if k != first},
        weights | {"more": torch.zeros(1)},
        weights | {first: weights[first].double()},
        weights | {first: weights[first].half()},
        weights | {first: torch.zeros(weights[first].shape, dtype=torch.int32)},
        weights | {first: weights[first][..., :1].contiguous()},
        weights | {first: weights[first].flatten()},
        weights | {first: torch.full_like(weights[first], torch.nan)},
        weights | {first: torch.full_like(weights[first], torch.inf)},
        {},
    ):
        rewrite(model_file, lambda header: None, tensors)
        refusal(ScoreModel.load, model_file)
        small_model().save(model_file)


def test_a_changed_weight_is_detected(model_file):
    content = bytearray(model_file.read_bytes())
    content[-2] ^= 1
    model_file.write_bytes(content)
    assert "checksum" in refusal(ScoreModel.load, model_file)


def test_a_file_without_a_checksum_is_read_only_in_the_older_format(model_file):
    weights, header = load_file(model_file), header_of(model_file)
    save_file(weights, model_file, metadata={KEY: json.dumps(header | {"format": 1})})
    assert ScoreModel.load(model_file).describe() == small_model().describe()
    save_file(weights, model_file, metadata={KEY: json.dumps(header)})
    assert "checksum" in refusal(ScoreModel.load, model_file)
    save_file(
        weights, model_file, metadata={KEY: json.dumps(header | {"format": 1}), CHECKSUM_KEY: ""}
    )
    assert "checksum" in refusal(ScoreModel.load, model_file)
    assert header["format"] == FORMAT > 1


def test_folders_pipes_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(b"\x05")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, phrase in [
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        ("/dev/zero", "a device or a pipe"),
        (tmp_path / "empty", "damaged"),
        (tmp_path / "short", "damaged"),
        (tmp_path / "loop", "cannot be read"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "empty" / "m.n2s", "no such file"),
        (tmp_path / ("a" * 5000), "cannot be read"),
        ("m\0.n2s", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=phrase):
            ScoreModel.load(path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_a_file_without_read_permission_is_refused(model_file):
    model_file.chmod(0)
    assert "Permission denied" in refusal(ScoreModel.load, model_file)


def test_the_size_of_a_network_is_checked_before_memory_is_allocated(model_file):
    # a depth of 6 with 1024 features would need terabytes
    rewrite(
        model_file,
        put("network", value={"ndim": 3, "channels": 4, "width": 1024, "depth": 6}),
    )
    assert "not a complete score model" in refusal(ScoreModel.load, model_file)


# checkpoints of training


STACK = np.random.default_rng(0).normal(100, 10, (2, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "checkpoint"
    for progress in train_steps(STACK, axes="TYX", steps=1):
        progress.result.checkpoint(path)
    return path


CHECKPOINTS = {
    "no steps": (drop("steps"), None),
    "steps a text": (put("steps", value="1"), None),
    "steps negative": (put("steps", value=-1), None),
    "seconds a list": (put("seconds", value=[]), None),
    "seconds negative": (put("seconds", value=-1.0), None),
    "loss null": (put("loss", value=None), None),
    "held out": (put("held_out", value=[1]), None),
    "held out a text": (put("held_out", value="abc"), None),
    "rng state a text": (put("rng", value="PCG64"), None),
    "rng state of another kind": (put("rng", "bit_generator", value="MT19937"), None),
    "rng state missing": (drop("rng", "state"), None),
    "rng state without numbers": (put("rng", "state", value={"state": "a", "inc": []}), None),
    "same a list": (put("same", value=[1]), None),
    "no weights": (put("steps", value=1), lambda t: {"noise": t["noise"]}),
    "no noise": (put("steps", value=1), lambda t: {k: v for k, v in t.items() if k != "noise"}),
    "short noise": (put("steps", value=1), lambda t: t | {"noise": t["noise"][:9].contiguous()}),
    "no optimiser": (put("steps", value=1), lambda t: without_prefix(t, "optimiser")),
    "no average": (put("steps", value=1), lambda t: without_prefix(t, "averaged")),
    "another shape": (put("steps", value=1), lambda t: t | {"averaged.head.bias": torch.ones(2)}),
    "odd optimiser": (put("steps", value=1), lambda t: t | {"optimiser.0.a.b": torch.ones(2)}),
    "too many": (put("steps", value=1), lambda t: t | {"optimiser.0.999.momentum": torch.ones(2)}),
}  # fmt: skip


def without_prefix(tensors, prefix):
    return {k: v for k, v in tensors.items() if not k.startswith(prefix)}


@pytest.mark.slow
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoint_that_is_not_complete_is_refused(checkpoint, tmp_path, case):
    change, change_tensors = CHECKPOINTS[case]
    path = tmp_path / "checkpoint"
    path.write_bytes(checkpoint.read_bytes())
    tensors = load_file(path)
    rewrite(path, change, change_tensors(tensors) if change_tensors else tensors)
    message = refusal(lambda: next(train_steps(STACK, axes="TYX", steps=2, resume=path)))
    assert "checkpoint" in message


def test_a_model_is_refused_as_a_checkpoint(model_file):
    refusal(lambda: next(train_steps(STACK, axes="TYX", steps=2, resume=model_file)))


def test_a_checkpoint_with_a_changed_byte_is_refused(checkpoint, tmp_path):
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 4
    (tmp_path / "c").write_bytes(content)
    assert "checksum" in refusal(
        lambda: next(train_steps(STACK, axes="TYX", steps=2, resume=tmp_path / "c"))
    )


# measured noise


LEVELS, EDGES = np.array([0.0, 100.0]), np.array([-50.0, 50.0, 150.0])
COUNTS = np.eye(2)


def test_archives_without_valid_measured_noise_are_refused(tmp_path):
    file = tmp_path / "noise.npz"
    good = {"levels": LEVELS, "edges": EDGES, "counts": COUNTS}
    bad = {
        "one missing": {"levels": LEVELS, "edges": EDGES},
        "one more": good | {"more": LEVELS},
        "objects": good | {"counts": COUNTS.astype(object)},
        "texts": good | {"counts": COUNTS.astype(str)},
        "complex": good | {"counts": COUNTS * 1j},
        "true or false": good | {"counts": COUNTS.astype(bool)},
        "records": good | {"levels": np.zeros(2, [("a", "f8")])},
        "dates": good | {"levels": np.zeros(2, "M8[s]")},
        "not finite": good | {"edges": EDGES * np.nan},
        "infinite": good | {"counts": COUNTS + np.inf},
        "unsorted": good | {"edges": EDGES[::-1]},
        "one level": good | {"levels": LEVELS[:1], "counts": COUNTS[:1]},
        "no level": good | {"levels": LEVELS[:0], "counts": COUNTS[:0]},
        "no bin": good | {"edges": EDGES[:0], "counts": COUNTS[:, :0]},
        "other shapes": good | {"counts": COUNTS.T[:, :1]},
        "a number": good | {"levels": np.float64(3)},
        "negative": good | {"counts": -COUNTS},
        "overflowing": good | {"counts": COUNTS * 1e300},
        "vanishing": good | {"counts": COUNTS * 1e-300},
        "far away": good | {"levels": LEVELS * 1e300},
        "falling": good | {"counts": COUNTS[::-1]},
    }
    for name, arrays in bad.items():
        np.savez(file, **arrays)
        message = refusal(parse_noise, f"empirical(file={file})")
        assert message.startswith("empirical: "), name
    np.savez(file, **good)
    assert parse_noise(f"empirical(file={file})") == Empirical(LEVELS, EDGES, COUNTS)


def test_damaged_archives_folders_and_devices_are_refused(tmp_path):
    file = tmp_path / "noise.npz"
    np.savez_compressed(file, levels=LEVELS, edges=EDGES, counts=COUNTS)
    content = file.read_bytes()
    original = Empirical.load(str(file))
    rng = np.random.default_rng(0)
    for position, bit in zip(
        rng.integers(0, len(content), 400), rng.integers(0, 8, 400), strict=True
    ):
        broken = bytearray(content)
        broken[position] ^= 1 << int(bit)
        file.write_bytes(broken)
        try:
            assert Empirical.load(str(file)) == original
        except UserError as error:
            assert str(error).isprintable()
    for size in range(0, len(content), 37):
        file.write_bytes(content[:size])
        refusal(Empirical.load, str(file))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero", tmp_path / "x" / "y", "a\nb", "a\0b"):
        refusal(Empirical.load, str(path))


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    import zipfile

    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("levels.npy", bytes(2**20))
        archive.writestr("edges.npy", bytes(2**20))
        with archive.open("counts.npy", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(2**20))
    assert "not a noise model" in refusal(Empirical.load, str(file))
    # an array that claims to be larger than the file
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("levels", "edges", "counts"):
            archive.writestr(f"{name}.npy", array)
    assert "not a noise model" in refusal(Empirical.load, str(file))


def test_a_pickle_is_never_loaded(tmp_path):
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    traps = np.array([Trap(), Trap()], dtype=object)
    np.savez(tmp_path / "n.npz", levels=traps, edges=traps, counts=traps)
    refusal(Empirical.load, str(tmp_path / "n.npz"))
    torch.save(traps, tmp_path / "m.n2s")
    refusal(ScoreModel.load, tmp_path / "m.n2s")
    assert not marker.exists()


def test_a_model_can_have_any_short_name(tmp_path):
    for name in ("", "ä µm", "a\nb", "🔬" * 100):
        replace(small_model(), name=name).save(tmp_path / "m.n2s")
        assert ScoreModel.load(tmp_path / "m.n2s").name == name
