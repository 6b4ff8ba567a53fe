"""Training learns a score from noisy images alone, and a model file preserves it."""

from __future__ import annotations

import json
import pickle
import time

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file

from napari_noise2score import ScoreModel, UserError, parse_noise, train, train_steps
from napari_noise2score.image.axes import layout, parse_axes
from napari_noise2score.score import _network_trainer, device
from napari_noise2score.score._network import UNet
from napari_noise2score.score._objective import antithetic_loss, balanced_normal
from napari_noise2score.score._tensor_file import KEY
from napari_noise2score.score._trainer import Trainer
from napari_noise2score.score.training import describe_kept
from napari_noise2score.solve.quantization import find_quantization_step
from napari_noise2score.solve.stabilization import fit_transform


def noisy_stack(shape=(6, 32, 32), sigma=10.0, seed=0):
    """Return smooth blobs with Gaussian noise, and the clean image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]] / 16
    clean = 100 + 40 * np.sin(y) * np.cos(x)
    return (clean + sigma * rng.standard_normal(shape)).astype(np.float32), clean


def weights(model):
    return torch.cat([p.flatten().cpu() for p in model.network.state_dict().values()])


@pytest.mark.slow
def test_training_lowers_the_held_out_loss():
    stack, _ = noisy_stack()
    states = [progress.result for progress in train_steps(stack, axes="TYX", steps=60)]
    losses = [state.val_loss for state in states if state.step in (50, 60)]
    assert losses[1] < losses[0] < 0


@pytest.mark.slow
def test_training_on_few_images_keeps_the_weights_before_overfitting(tmp_path):
    stack, _ = noisy_stack((10, 24, 24))
    losses, middle, last = {}, 200, 250
    for progress in train_steps(stack, axes="TYX", steps=last):
        state = progress.result
        losses[state.step] = state.val_loss
        if state.step == middle:
            state.checkpoint(tmp_path / "checkpoint")
    model = state.snapshot()
    best = min(range(25, last + 1, 25), key=losses.__getitem__)
    assert losses[last] > losses[best] + 0.05  # overfitting occurs
    assert model.provenance["kept_step"] == best < middle
    assert model.provenance["val_loss"] == losses[best]
    assert f"step {best}" in describe_kept(model)
    resumed = train(stack, axes="TYX", steps=last, resume=tmp_path / "checkpoint")
    assert torch.equal(weights(model), weights(resumed))


@pytest.mark.parametrize("side", [20, 72, 127])
def test_held_out_pixels_of_a_small_image_are_not_trained_on(side):
    # all pixels differ, so that each can be recognised
    image = np.random.default_rng(0).permutation(side**2).reshape(side, side)
    trainer = Trainer([image], [layout("YX", image.shape)], "cpu", 0, "small")
    trained_pixels = trainer.patches.draw(200, np.random.default_rng(1))
    assert not np.isin(trainer.held_out.y.numpy(), trained_pixels).any()
    assert np.isin(image, trained_pixels).mean() > 0.5


@pytest.mark.parametrize("side", [48, 80])
def test_held_out_pixels_of_correlated_noise_are_not_trained_on(side):
    kernel = parse_noise("gaussian(sigma=1) @ A").components.kernel
    white = np.random.default_rng(0).permutation(side**2).reshape(side, side)
    image = kernel.apply_to_image(white.astype(np.float32))
    trainer = Trainer([image], [layout("YX", image.shape)], "cpu", 0, "small", kernel)
    trained_pixels = trainer.patches.draw(200, np.random.default_rng(1)).round()
    held_out = trainer.held_out.y.numpy().round()
    assert np.isin(held_out, white).mean() > 0.95  # patches are decorrelated
    assert np.isin(held_out, trained_pixels).mean() < 0.05  # except pixels altered by rounding
    assert np.isin(white, trained_pixels).mean() > 0.25


def test_the_step_of_counts_is_found_after_decorrelation():
    noise = parse_noise("poisson(gain=5) @ A")
    clean = np.kron(np.random.default_rng(0).uniform(10, 200, (8, 8)), np.ones((24, 24)))
    y = noise.sample(clean, np.random.default_rng(1)).astype(np.float32)
    trainer = Trainer([y], [layout("YX", y.shape)], "cpu", 0, "blurred", noise.components.kernel)
    assert trainer.facts["quantization"].step == pytest.approx(5, rel=1e-3)
    read = y + np.random.default_rng(2).normal(0, 3, y.shape)
    trainer = Trainer([read], [layout("YX", y.shape)], "cpu", 0, "read", noise.components.kernel)
    assert trainer.facts["quantization"].step == 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    stack, _ = noisy_stack()
    first, again, other = (train(stack, axes="TYX", steps=4, seed=s) for s in (1, 1, 2))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_training_does_not_change_the_global_rng():
    stack, _ = noisy_stack((2, 64, 64))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train(stack, axes="TYX", steps=2)
    assert torch.equal(torch.rand(1), expected)


def test_numpy_dask_and_zarr_give_the_same_weights(tmp_path):
    stack, _ = noisy_stack()
    on_disk = zarr.create_array(str(tmp_path / "a.zarr"), data=stack, chunks=(1, 16, 16))
    models = [
        train(a, axes="TYX", steps=2) for a in (stack, da.from_array(stack, (2, 20, 20)), on_disk)
    ]
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert torch.equal(weights(models[0]), weights(models[2]))


@pytest.mark.slow
def test_a_lazy_image_is_never_read_whole():
    largest = 0

    def make_plane(block_info=None):
        return np.random.default_rng(0).normal(100, 10, (1, 512, 512)).astype(np.float32)

    stack = da.map_blocks(make_plane, chunks=((1,) * 1000, 512, 512), dtype=np.float32)

    class RecordingArray:
        shape, dtype, ndim = stack.shape, stack.dtype, stack.ndim

        def __getitem__(self, at):
            nonlocal largest
            piece = stack[at]
            largest = max(largest, piece.size)
            return piece

    train(RecordingArray(), axes="TYX", steps=2)
    assert largest <= 128 * 128


def test_stopping_early_keeps_what_was_learned(tmp_path):
    stack, _ = noisy_stack()
    run = train_steps(stack, axes="TYX", minutes=10)
    for progress in run:
        if progress.result.step == 3:
            run.close()
    model = progress.result.snapshot()
    model.save(tmp_path / "m.n2s")
    assert ScoreModel.load(tmp_path / "m.n2s").provenance["steps"] == 3


def test_a_resumed_training_ends_with_the_same_weights(tmp_path):
    stack, _ = noisy_stack()
    for whole in train_steps(stack, axes="TYX", steps=6):
        if whole.result.step == 3:
            whole.result.checkpoint(tmp_path / "half")
    *_, resumed = train_steps(stack, axes="TYX", steps=6, resume=tmp_path / "half")
    assert torch.equal(weights(whole.result.snapshot()), weights(resumed.result.snapshot()))
    with pytest.raises(UserError, match="other seed"):
        next(train_steps(stack, axes="TYX", steps=6, seed=1, resume=tmp_path / "half"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "axes", "ndim", "channels"),
    [
        ((37, 51), "YX", 2, 1),
        ((5, 37, 51), "ZYX", 3, 1),
        ((40, 40, 3), "YXC", 2, 3),
        ((2, 4, 40, 40), "TCYX", 2, 1),
        ((6, 40, 40), "CYX", 2, 1),
        ((2, 3, 40, 40, 2), "TZYXC", 3, 2),
        ((9, 11), "YX", 2, 1),
    ],
)
def test_any_size_and_axes_can_be_trained_on(shape, axes, ndim, channels):
    stack = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    model = train(stack, axes=axes, ndim=ndim, steps=1)
    assert (model.ndim, model.channels) == (ndim, channels)


@pytest.mark.parametrize(
    ("images", "axes", "phrase"),
    [
        (np.zeros((64, 64)), "YX", "constant"),
        (np.full((64, 64), np.nan), "YX", "no valid pixel"),
        (np.zeros((0, 64, 64)), "TYX", "empty"),
        (np.zeros((4, 64, 64)), "YX", "name 2 dimensions, but the image has 3"),
        (np.zeros((4, 64, 64)), "TYQ", "'Q' is not an axis"),
        (np.zeros((4, 64, 64)), "TTX", "once only"),
        (np.zeros((64, 64), complex), "YX", "type complex"),
        ([], "YX", "no image"),
    ],
)
def test_images_unsuitable_for_training_are_refused_in_one_line(images, axes, phrase):
    with pytest.raises(UserError, match=phrase) as caught:
        train(images, axes=axes, steps=1)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_infinite_pixel_is_ignored():
    stack, _ = noisy_stack((1, 64, 64))
    stack[0, 32, 32] = np.inf
    model = train(stack, axes="TYX", steps=10)
    assert np.isfinite(model.provenance["val_loss"])
    assert model.high < 200


@pytest.mark.parametrize(("slow", "chosen"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_training_uses_the_faster_precision(monkeypatch, slow, chosen):
    monkeypatch.setattr(device, "_has_bfloat16", lambda _: True)
    monkeypatch.setattr(device, "_FASTER", {})
    cpu = torch.device("cpu")
    assert device.faster_precision(cpu, lambda p: time.sleep(0.02 * (p == slow))) == chosen


@pytest.mark.slow
def test_a_resumed_training_keeps_its_precision(monkeypatch, tmp_path):
    frame = np.random.default_rng(0).normal(100, 10, (64, 64))
    monkeypatch.setattr(_network_trainer, "STEPS_BEFORE_TIMING", 1)
    monkeypatch.setattr(_network_trainer, "faster_precision", lambda *_: "bfloat16")
    for progress in train_steps(frame, steps=3):
        if progress.result.step == 2:
            progress.result.checkpoint(tmp_path / "checkpoint")
    model = train(frame, steps=3, resume=tmp_path / "checkpoint")
    assert model.describe()["precision"] == "bfloat16"


def test_an_unavailable_device_is_refused():
    with pytest.raises(UserError, match=r"there is .*cpu"):
        train(noisy_stack()[0], axes="TYX", steps=1, device="abacus")


# the model file


@pytest.fixture(scope="module")
def model():
    return train(noisy_stack()[0], axes="TYX", steps=2, name="blobs")


def test_a_saved_model_is_loaded_unchanged(model, tmp_path):
    model.save(tmp_path / "m.n2s")
    loaded = ScoreModel.load(tmp_path / "m.n2s")
    assert torch.equal(weights(model), weights(loaded))
    y = torch.rand(1, 1, 32, 32) * 255
    assert torch.equal(model.to("cpu").score(y), loaded.score(y))
    assert loaded.describe() == model.describe()
    assert list(tmp_path.iterdir()) == [tmp_path / "m.n2s"]


def test_other_files_are_refused_in_one_line(model, tmp_path):
    (tmp_path / "text").write_text("no model")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"network": 1}))
    torch.save({"a": torch.zeros(1)}, tmp_path / "torch")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    model.save(tmp_path / "m.n2s")
    (tmp_path / "cut").write_bytes((tmp_path / "m.n2s").read_bytes()[:-1000])
    save_file({"a": torch.zeros(1)}, tmp_path / "newer", metadata={KEY: json.dumps({"format": 99})})
    save_file({"a": torch.zeros(1)}, tmp_path / "empty", metadata={KEY: json.dumps({"format": 1})})
    for name, phrase in [
        ("text", "not a score model"),
        ("pickle", "not a score model"),
        ("torch", "not a score model"),
        ("other", "not a score model"),
        ("cut", "damaged"),
        ("newer", "newer version"),
        ("empty", "not a complete"),
        ("absent", "no such file"),
    ]:
        with pytest.raises(UserError, match=phrase) as caught:
            ScoreModel.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_is_refused_as_a_model(tmp_path):
    for progress in train_steps(noisy_stack()[0], axes="TYX", steps=1):
        progress.result.checkpoint(tmp_path / "c")
    with pytest.raises(UserError, match="not a complete score model"):
        ScoreModel.load(tmp_path / "c")


# network, objective, perturbations and statistics


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "depth"), [(2, 3), (3, 2)])
def test_a_pixel_depends_on_inputs_within_the_radius_only(ndim, depth):
    net = UNet(ndim, 1, 2, depth).double()
    rng = torch.Generator().manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, 0, 0.3, generator=rng)
    size = {2: (160, 160), 3: (25, 80, 80)}[ndim]
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    reach = torch.zeros(ndim, dtype=torch.long)
    for shift in range(2**depth):
        at = [n // 2 + shift * (n > 25) for n in size]
        (gradient,) = torch.autograd.grad(net(x)[(0, 0, *at)], x)
        touched = gradient[0].abs().sum(0).nonzero() - torch.tensor(at)
        reach = torch.maximum(reach, touched.abs().amax(0))
    assert tuple(reach.tolist()) == net.radius


@pytest.mark.parametrize("weight", [None, lambda z: torch.exp(z)])
def test_the_objective_is_minimal_at_the_true_score_for_any_weights(weight):
    # y ~ N(0, 1), so y + σ_a u has the score −y / (1 + σ_a²)
    rng = torch.Generator().manual_seed(0)
    z, u = torch.randn(2, 64, 1, 64, 64, generator=rng)
    sigma_a = torch.full((64,), 0.5)
    factors = [0.7, 0.75, 0.8, 0.85, 0.9]
    losses = [
        antithetic_loss(lambda y, a, k=k: -k * y, z, u, sigma_a, weight).item() for k in factors
    ]
    assert factors[int(np.argmin(losses))] == 0.8


@pytest.mark.parametrize("shape", [(8, 1, 64, 64), (8, 3, 32, 40), (4, 4, 6, 16, 16)])
def test_the_perturbations_of_a_batch_are_exactly_white_and_normal(shape):
    u = balanced_normal(shape, torch.Generator().manual_seed(0))
    assert u.shape == shape
    space = tuple(range(2, len(shape)))
    for by in [(0, 0), (0, 1), (3, 2)]:
        shifted = u.roll(by, space[-2:])
        covariance = torch.einsum("nc...,nd...->cd", u, shifted) / u[:, 0].numel()
        expected = torch.eye(shape[1]) if by == (0, 0) else torch.zeros(shape[1], shape[1])
        assert torch.allclose(covariance, expected, atol=1e-5)
    assert abs(u.mean()) < 0.02
    assert (u.abs() < 1).float().mean() == pytest.approx(0.683, abs=0.01)
    # neighbouring pixels of one image are independent
    assert abs((u[0, 0] * u[0, 0].roll(1, -1)).mean()) < 5 / u[0, 0].numel() ** 0.5


def test_training_moves_from_strong_perturbations_to_those_of_denoising():
    def drawn(count):
        stack = noisy_stack((count, 32, 32))[0]
        trainer = Trainer([stack], [layout("TYX", stack.shape)], "cpu", 0, "score")
        draws = [
            [trainer._draw_sigma_a(np.zeros(8, int), at) for _ in range(200)]
            for at in (0, 0.4, 0.9)
        ]
        return trainer.facts["sigma_a_range"], *(torch.cat(part) for part in draws)

    (low, high), first, later, last = drawn(20)
    assert first.median() > later.median() > last.median()
    assert first.max() > later.max() > high
    assert low <= last.min() <= last.max() <= high
    # a training that stops early has included the perturbations of denoising
    assert later.min() < 1.1 * low
    # few images are overfitted before the phase of strong perturbations ends
    (low, high), first, *_ = drawn(6)
    assert low <= first.min() <= first.max() <= high


def test_the_noise_curve_is_measured_on_single_frames():
    rng = np.random.default_rng(0)
    clean = np.repeat(np.linspace(20, 220, 256)[None], 256, axis=0)
    camera = 2.0 * rng.poisson(clean / 2.0) + 3.0 * rng.standard_normal(clean.shape)
    curve = fit_transform([camera])
    for level in (60.0, 120.0, 180.0):
        read = float(curve.variance(torch.tensor(level)))
        assert read == pytest.approx(2.0 * level + 9, rel=0.15)


@pytest.mark.parametrize("step", [1, 4])
def test_the_step_of_integers_is_found(step):
    counts = np.random.default_rng(0).poisson(50, 10_000).astype(np.uint16) * step
    assert find_quantization_step(counts) == step
    assert find_quantization_step(counts.astype(np.float32) / 7) == pytest.approx(
        step / 7, rel=1e-3
    )


def test_axes_can_be_given_in_any_order():
    assert parse_axes("xyzct", 5) == "XYZCT"
    image_layout = layout("XYC", (30, 20, 3))
    assert (image_layout.space_shape, image_layout.channels) == ((20, 30), 3)
    block = image_layout.to_block(np.zeros((30, 20, 3)))
    assert block.shape == (3, 20, 30)
    assert image_layout.from_block(block).shape == (30, 20, 3)


def test_time_between_two_steps_does_not_count_towards_the_budget(monkeypatch):
    """The caller of the generator may pause."""
    from types import SimpleNamespace

    from napari_noise2score.score import training

    clock = [0.0]

    def monotonic():
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=monotonic))
    image = np.random.default_rng(0).normal(100, 10, (64, 64))
    for progress in training.train_steps(image, minutes=0.1):
        clock[0] += 1000
    assert progress.result.step == 6  # each takes one second
    assert progress.result.seconds_left == 0
