"""A registered noise family, one class, is available everywhere: parser, solver, window, docs."""

from __future__ import annotations

import ast
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_noise2score import UserError
from napari_noise2score.errors import DataWarning
from napari_noise2score.estimation._fit import fit_families
from napari_noise2score.estimation._moments import Moments
from napari_noise2score.noise import (
    A,
    FittedParameters,
    Form,
    Gaussian,
    NoiseFamily,
    Parameter,
    families,
    parse_noise,
    register,
    registry,
    tables,
)
from napari_noise2score.solve.solver import make_closed_form, make_solver
from napari_noise2score.solve.transform import Transform

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_noise2score"

WIDTH = Parameter(
    "width", "Width", "Half the width of the distribution as a fraction of the signal.",
    "× signal", initial=0.2, above=0.0, below=0.9, low=1e-3, high=0.899, variance_power=0.5,
)  # fmt: skip


@dataclass(frozen=True)
class Logistic(NoiseFamily):
    """Model multiplicative logistic noise: y = x (1 + w η), with η of variance 1."""

    width: float

    name = "logistic"
    aliases = ("heavy-tailed gain noise",)
    source = "this test"
    multiplicative = True
    signed = True
    forms = (
        Form(
            "Logistic: heavy-tailed multiplicative",
            (WIDTH,),
            "logistic(width=0.2)",
            "a detector with an unsteady gain",
            "sech²((y − x)/2s)/4s, s = √3 w x/π",
            "−tanh((y − x)/2s)/s",
        ),
    )
    fitted = (
        FittedParameters(
            ("width",), lambda mean, variance: (float(np.median(variance**0.5 / mean)),)
        ),
    )

    def scale(self, x):
        return math.sqrt(3) / math.pi * self.width * x

    def sample(self, x, rng):
        return np.asarray(x) + rng.logistic(0, 1, np.shape(x)) * self.scale(np.asarray(x))

    def mean(self, x):
        return x

    def variance(self, x):
        return (self.width * x) ** 2

    def third_cumulant(self, x):
        return 0 * x

    def clean_from_mean(self, mean):
        return mean

    def score(self, x, y):
        scale = self.scale(x)
        return -torch.tanh((y - x) / (2 * scale)) / scale

    def solve(self, y, s):
        x = y
        for _ in range(200):
            scale = self.scale(x)
            x = 0.5 * x + 0.5 * (y + 2 * scale * torch.atanh((scale * s).clamp(-0.99, 0.99)))
        return x

    def cdf(self, y, x):
        return torch.sigmoid((y - x) / self.scale(x.clamp(min=1e-12)))


@pytest.fixture(autouse=True)
def logistic():
    register(Logistic)
    yield Logistic
    registry.unregister("logistic")


def test_a_registered_family_is_parsed_and_printed():
    model = parse_noise("logistic(width=0.2) @ A + gaussian(sigma=3)")
    assert model == Logistic(0.2) @ A + Gaussian(3)
    assert str(model) == "logistic(width=0.2) @ A + gaussian(sigma=3)"
    with pytest.raises(UserError, match=r"logistic: width must be between 0 and 0\.9, not 2"):
        parse_noise("logistic(width=2)")
    with pytest.raises(UserError, match="needs width, as in logistic"):
        parse_noise("logistic()")
    with pytest.raises(UserError, match="did you mean 'logistic'"):
        parse_noise("logistc(width=2)")


def test_a_registered_family_is_sampled_with_its_moments():
    y = Logistic(0.2).sample(np.full(200_000, 100.0), np.random.default_rng(0))
    assert y.mean() == pytest.approx(100, rel=0.01)
    assert y.std() == pytest.approx(20, rel=0.01)


def test_a_registered_family_is_solved_by_table_and_closed_form():
    model, transform = Logistic(0.1), Transform(0, 4, 0, 0.01)
    y = torch.linspace(40, 200, 60, dtype=torch.float64)
    s = torch.linspace(-0.02, 0.02, 60, dtype=torch.float64)
    solution = model.solve(y, s)
    assert torch.allclose(model.score(solution, y), s, atol=1e-4)
    for make in (
        lambda: make_solver(model, transform, 0.3, 0.0, 300.0),
        lambda: make_closed_form(model, transform, 0.3),
    ):
        x = make()(y, torch.zeros_like(y))
        assert torch.isfinite(x).all()
        assert torch.allclose(x.double(), y, rtol=0.05)


def test_a_registered_family_is_estimated_from_moments():
    x = np.linspace(20, 200, 12)
    y = Logistic(0.2).sample(np.repeat(x[:, None], 50_000, 1), np.random.default_rng(0))
    third = ((y - y.mean(1, keepdims=True)) ** 3).mean(1)
    moments = Moments(y.mean(1), y.var(1), third, 0.02 * y.var(1), 0.02 * y.var(1) ** 1.5)
    best = fit_families(moments)[0]
    assert isinstance(best.noise, Logistic)
    assert best.noise.width == pytest.approx(0.2, rel=0.02)
    low, high = best.intervals["width"]
    assert low < best.noise.width < high


def test_a_registered_family_is_estimated_from_images():
    from napari_noise2score.estimation._from_images import estimate_from_frames

    rng = np.random.default_rng(0)
    scene = np.kron(rng.uniform(30, 200, (8, 8)), np.ones((40, 40)))
    frames = np.stack([Logistic(0.2).sample(scene, rng) for _ in range(6)])
    found = estimate_from_frames([frames])
    assert isinstance(found.noise, Logistic)
    assert found.noise.width == pytest.approx(0.2, rel=0.03)


def test_a_registered_family_is_scaled_and_converted_to_another_unit():
    model = Logistic(0.2) + Gaussian(3)
    assert str(model.scaled(4)) == "logistic(width=0.4) + gaussian(sigma=6)"
    assert str(model.in_unit(10)) == "logistic(width=0.2) + gaussian(sigma=30)"
    assert model.unit_power("width") == 0
    assert model.unit_power("read noise") == 1


def test_a_registered_family_appears_in_the_tables_of_the_documentation():
    assert "| `logistic(width=0.2)` | a detector with an unsteady gain |" in tables.summary_table()
    assert "−tanh((y − x)/2s)/s" in tables.equation_table()
    assert "| `logistic` | `width` |" in tables.parameter_table()
    assert "logistic(width=0.2)" in tables.help_text()


def test_a_registered_family_is_offered_in_the_window(qtbot):
    from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget

    from napari_noise2score.widgets._noise_form import NoiseForm

    parent = QWidget()
    qtbot.addWidget(parent)
    rows = QFormLayout(parent)
    form = NoiseForm(rows)
    assert form.text == "poisson(gain=1)"
    label = "Logistic: heavy-tailed multiplicative"
    menu = next(m for m in parent.findChildren(QComboBox) if m.findText(label) >= 0)
    index = menu.findText(label)
    menu.setCurrentIndex(index)
    assert form.text == "logistic(width=0.2)"
    form.set_text("logistic(width=0.3) + gaussian(sigma=2)")
    assert menu.currentIndex() == index


def test_two_families_cannot_have_the_same_name():
    register(Logistic)  # the same class again is allowed

    class Other(Logistic):
        name = "gaussian"

    with pytest.raises(UserError, match="already a noise family called 'gaussian'"):
        register(Other)


def install_package(folder, monkeypatch, value):
    """Install a package that declares a family by an entry point."""
    metadata_folder = folder / "afar-1.0.dist-info"
    metadata_folder.mkdir()
    (metadata_folder / "METADATA").write_text("Metadata-Version: 2.1\nName: afar\nVersion: 1.0\n")
    (metadata_folder / "entry_points.txt").write_text(f"[{registry.GROUP}]\nfrom_afar = {value}\n")
    monkeypatch.syspath_prepend(folder)


def test_a_family_of_another_package_is_found(monkeypatch, tmp_path):
    (tmp_path / "afar_noise.py").write_text(
        "from napari_noise2score.noise import Gaussian\n"
        "class FromAfar(Gaussian):\n    name = 'from_afar'\n"
    )
    install_package(tmp_path, monkeypatch, "afar_noise:FromAfar")
    assert str(parse_noise("from_afar(sigma=3)")) == "from_afar(sigma=3)"
    assert "from_afar" in [family.name for family in families()]


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        ("no_such_module_at_all:Family", "ModuleNotFoundError"),
        ("math:pi", "not a subclass of NoiseFamily"),
        ("napari_noise2score.noise.family:NoiseFamily", "does not define name, forms"),
    ],
)
def test_a_family_that_cannot_be_loaded_is_reported_in_one_line(
    monkeypatch, tmp_path, value, phrase
):
    install_package(tmp_path, monkeypatch, value)
    with pytest.raises(UserError, match=phrase) as caught:
        parse_noise("from_afar(sigma=3)")
    assert "\n" not in str(caught.value)
    with pytest.warns(DataWarning, match=phrase):
        known = families()
    assert Gaussian in known
    assert str(parse_noise("gaussian(sigma=3)")) == "gaussian(sigma=3)"  # the others still work


def test_a_family_is_suggested_by_its_aliases():
    assert registry.family_of_alias("MRI").name == "rician"
    with pytest.raises(UserError, match="did you mean 'rician'"):
        parse_noise("mri(sigma=3)")


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_every_family_declares_its_documentation(family):
    assert family.__doc__
    assert family.aliases
    assert family.source
    for form in family.forms:
        assert form.label
        assert form.use
        assert form.density
        assert form.score
        assert all(p.help.endswith(".") and p.label for p in form.parameters)
        if not any(p.is_file for p in form.parameters):
            assert str(parse_noise(form.example)) == form.example


def test_the_tables_of_the_documentation_are_those_of_the_registry():
    registry.unregister("logistic")
    spec = importlib.util.spec_from_file_location("noise_tables", ROOT / "docs/noise_tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for file, found in script.TABLES.items():
        text = (ROOT / file).read_text("utf-8")
        assert script.with_tables(text, found) == text, f"{file}: run python docs/noise_tables.py"


def test_no_family_is_named_outside_its_own_file():
    """Exceptions: composing models with read noise, and the lists of public names."""
    classes = {family.__name__: SOURCE / "noise" / f"{family.name}.py" for family in families()}
    allowed = {
        *((path, name) for path in FILES_WITH_PUBLIC_NAMES for name in classes),
        *((SOURCE / "noise" / file, "Gaussian") for file in ("base.py", "sum.py", "parse.py")),
    }
    found = {
        (path, name)
        for path in SOURCE.rglob("*.py")
        for name in used_names(ast.parse(path.read_text("utf-8")))
        if name in classes and path != classes[name]
    }
    assert sorted(found - allowed) == []


FILES_WITH_PUBLIC_NAMES = SOURCE / "__init__.py", SOURCE / "noise" / "__init__.py"


def used_names(tree):
    """Yield the names that code uses or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
