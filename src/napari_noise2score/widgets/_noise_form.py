"""Spell a noise model with a few spin boxes, or as text; each follows the other."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
)

from ..errors import UserError
from ._number import Number
from ._session import when_ready

GREY = "grey levels"
NONE = "none"
# what need not be said
USUAL = {"offset": 0, "excess": 2}


class Parameter(NamedTuple):
    """A number of a noise model, as its control shows it."""

    name: str
    label: str
    start: float
    unit: str
    tip: str
    lowest: float = 0.00001
    highest: float = 1e9
    reach: float | None = None  # of the slider, where the number may be 0 or below


class Family(NamedTuple):
    """A kind of noise: how the menu and the text call it, and its numbers."""

    title: str
    name: str
    parameters: tuple[Parameter, ...]
    reads: bool = True  # whether read noise may be added


SPREAD = "Standard deviation of the noise, in grey levels."
OFFSET = Parameter(
    "offset", "Offset", 0, GREY,
    "Grey level without any light, often 100. The denoised image keeps it.",
    -1e9, reach=100,
)  # fmt: skip
FAMILIES = (
    Family(
        "Poisson: photon counting",
        "poisson",
        (
            Parameter(
                "gain", "Gain", 1, "grey levels per count",
                "Grey levels that one counted photon or electron adds, as the camera's data "
                "sheet says.",
            ),
            OFFSET,
        ),
    ),
    Family(
        "Gaussian: the same everywhere",
        "gaussian",
        (Parameter("sigma", "Sigma", 10, GREY, SPREAD),),
        reads=False,
    ),
    Family(
        "Gaussian: growing with the signal",
        "gaussian",
        (
            Parameter(
                "a", "a", 0.1, "",
                "Growth of the noise with the signal x: its standard deviation is a x + b. "
                "Without unit.",
                0, reach=0.2,
            ),
            Parameter("b", "b", 10, GREY, SPREAD.replace("the noise", "the noise at x = 0")),
        ),
        reads=False,
    ),
    Family(
        "Gamma: speckle, intensity",
        "gamma",
        (
            Parameter(
                "alpha", "Alpha", 26, "looks",
                "Number of looks: the noise is the signal divided by the root of alpha. 1 is a "
                "single look at fully developed speckle. Without unit, at least 1.",
                1,
            ),
        ),
    ),
    Family(
        "Nakagami: speckle, amplitude",
        "nakagami",
        (
            Parameter(
                "m", "m", 1, "looks",
                "Number of looks, for images of amplitude: OCT, ultrasound, SAR. 1 is fully "
                "developed speckle. Without unit, at least 0.5.",
                0.5,
            ),
        ),
    ),
    Family(
        "Rician: magnitude (MRI)",
        "rician",
        (
            Parameter(
                "sigma", "Sigma", 10, GREY,
                "Standard deviation of the noise in each of the two channels, in grey levels: "
                "where there is no signal, the mean divided by 1.25.",
            ),
        ),
    ),
    Family(
        "Tweedie: pulses of random height",
        "tweedie",
        (
            Parameter(
                "power", "Power", 1.5, "",
                "How the noise grows: its variance is the dispersion times the signal to this "
                "power. Near 1 as photon counts, near 2 as speckle; a photomultiplier or EMCCD "
                "lies between. Without unit.",
                1.001, 1.999, reach=1,
            ),
            Parameter(
                "dispersion", "Dispersion", 3, "",
                "Size of the noise: its variance where the signal is 1 grey level. In grey levels "
                "to the power of 2 − power.",
            ),
            OFFSET,
        ),
    ),
    Family(
        "EMCCD or photomultiplier",
        "emccd",
        (
            Parameter(
                "gain", "Gain", 20, "grey levels per count",
                "Grey levels that one counted photon or electron adds on average.",
            ),
            OFFSET,
            Parameter(
                "excess", "Excess noise", 2, "",
                "Excess noise factor: the variance of the noise over that of counts which all "
                "add the same. 2 for an EMCCD, 1.2 to 1.5 for a photomultiplier. Without unit, "
                "above 1.",
                1.001, 20, reach=3,
            ),
        ),
    ),
    Family(
        "Rayleigh: multiplicative",
        "rayleigh",
        (
            Parameter(
                "sigma", "Sigma", 0.3, "× signal",
                "Size of the noise as a share of the signal. Without unit.",
            ),
        ),
    ),
)  # fmt: skip


class NoiseForm(QObject):
    """Controls for a noise model, and the text that is used.

    Parameters
    ----------
    rows : QFormLayout
        Where the controls go; they share it with others so that all stand in line.
    """

    changed = Signal(str)

    def __init__(self, rows: QFormLayout) -> None:
        super().__init__(rows.parentWidget())
        self._rows = rows
        self._ready = False
        self._family = QComboBox()
        self._family.addItems([family.title for family in FAMILIES])
        self._family.setPlaceholderText("as the text says")
        self._family.setToolTip("Where the noise comes from.")
        self._boxes = {
            (i, p.name): _number(p) for i, f in enumerate(FAMILIES) for p in f.parameters
        }
        self._correlation = correlation_box()
        self._reads = QCheckBox()
        self._reads.setToolTip("Whether the electronics add Gaussian noise to every pixel.")
        self._read = _number(Parameter("sigma", "", 3, GREY, SPREAD))
        self._text = QLineEdit()
        self._text.setToolTip(
            "The noise model as text; this is what is used, and the same text works in Python "
            "and on the command line."
        )
        self._complaint = QLabel()
        self._complaint.setWordWrap(True)
        self._rows.addRow("Noise", self._family)
        for (i, name), box in self._boxes.items():
            label = next(p.label for p in FAMILIES[i].parameters if p.name == name)
            self._rows.addRow(label, box)
            box.valueChanged.connect(self._compose)
        self._rows.addRow("Correlation", self._correlation)
        self._read_row = QHBoxLayout()
        self._read_row.addWidget(self._reads)
        self._read_row.addWidget(self._read, stretch=1)
        self._rows.addRow("Read noise", self._read_row)
        self._rows.addRow("As text", self._text)
        self._rows.addRow(self._complaint)
        self._family.currentIndexChanged.connect(self._show_rows)
        self._family.currentIndexChanged.connect(self._compose)
        self._correlation.currentTextChanged.connect(self._compose)
        self._reads.toggled.connect(self._show_rows)
        self._reads.toggled.connect(self._compose)
        self._read.valueChanged.connect(self._compose)
        self._text.textChanged.connect(self._follow_text)
        self._show_rows()
        self._compose()
        when_ready(self._get_ready)

    @property
    def text(self) -> str:
        """The noise model as text."""
        return self._text.text()

    def set_text(self, text: str) -> None:
        """Set the noise model; the controls follow where it can be read."""
        self._text.setText(text)
        self._text.setCursorPosition(0)

    def _get_ready(self, _devices: list[str]) -> None:
        self._ready = True
        self._follow_text(self.text)

    def _show_rows(self) -> None:
        chosen = self._family.currentIndex()
        for (i, _), box in self._boxes.items():
            self._rows.setRowVisible(box, i == chosen)
        self._rows.setRowVisible(self._read_row, chosen >= 0 and FAMILIES[chosen].reads)
        self._read.setEnabled(self._reads.isChecked())

    def _compose(self) -> None:
        """Write the text that the controls stand for."""
        chosen = self._family.currentIndex()
        if chosen < 0:
            return
        family = FAMILIES[chosen]
        values = {p.name: self._boxes[chosen, p.name].value() for p in family.parameters}
        given = {name: value for name, value in values.items() if value != USUAL.get(name)}
        text = _spell(family.name, given)
        if kernel := correlation(self._correlation):
            text += f" @ {kernel}"
        if family.reads and self._reads.isChecked():
            text += " + " + _spell("gaussian", {"sigma": self._read.value()})
        if text != self.text:
            with QSignalBlocker(self._text):  # the controls need not follow themselves
                self._text.setText(text)
            self._text.setCursorPosition(0)  # show the family rather than the end
            self._complain("")
            if self._ready:
                try:
                    parse(text)  # a kernel is typed letter by letter
                except UserError as error:
                    self._complain(str(error))
            self.changed.emit(text)

    def _follow_text(self, text: str) -> None:
        """Set the controls to what the text says."""
        if self._ready:
            try:
                self._show(parse(text))
                self._complain("")
            except UserError as error:
                self._complain(str(error))
        self.changed.emit(text)

    def _show(self, model: Any) -> None:
        read, base = getattr(model, "read", None), model
        if read is not None:
            base = base.base
        kernel = getattr(base, "kernel", None)
        if kernel is not None:
            base = base.base
        values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
        values = {name: value for name, value in values.items() if value is not None}
        chosen = _find(type(base).__name__.lower(), set(values), read is not None)
        controls = [self._family, self._correlation, self._reads, self._read]
        controls += self._boxes.values()
        blockers = [QSignalBlocker(control) for control in controls]
        self._family.setCurrentIndex(chosen)  # none, if only the text can say it
        if chosen >= 0:
            for name, value in values.items():
                self._boxes[chosen, name].setValue(value)
        if kernel != parse_kernel(correlation(self._correlation)):
            self._correlation.setCurrentText(str(kernel or NONE))
        self._reads.setChecked(read is not None)
        if read is not None:
            self._read.setValue(read.sigma)
        for blocker in blockers:
            blocker.unblock()
        self._show_rows()

    def _complain(self, complaint: str) -> None:
        self._complaint.setText(complaint)
        self._rows.setRowVisible(self._complaint, bool(complaint))


def correlation_box() -> QComboBox:
    """Make the control for the correlation of the noise, of which `correlation` gives the text."""
    box = QComboBox()
    box.setEditable(True)
    box.addItems([NONE, "A", "kernel([[0.1, 0.8, 0.1]])"])
    box.setToolTip(
        "How neighbouring pixels share their noise: none, A for the 3×3 kernel of Xie et al., or "
        "rows of weights around the pixel itself, in brackets. Without unit."
    )
    box.setMinimumContentsLength(8)
    if (line := box.lineEdit()) is not None:
        line.setToolTip(box.toolTip())
    return box


def correlation(box: QComboBox) -> str:
    """Give the text of a kernel, empty if there is none."""
    text = box.currentText().strip()
    return "" if text == NONE else text


def _number(parameter: Parameter) -> Number:
    unit = f" Unit: {parameter.unit}." if parameter.unit else ""
    return Number(
        parameter.start,
        parameter.lowest,
        parameter.highest,
        parameter.tip + unit,
        parameter.reach,
    )


def _spell(name: str, values: dict[str, float]) -> str:
    return f"{name}({', '.join(f'{k}={v:.10g}' for k, v in values.items())})"


def _find(name: str, parameters: set[str], read: bool) -> int:
    """Index of the family with these parameters, -1 if there is none."""
    for i, family in enumerate(FAMILIES):
        same = family.name == name and {p.name for p in family.parameters} == parameters
        if same and (family.reads or not read):
            return i
    return -1


def parse_kernel(text: str) -> Any:
    """Read a kernel, None from an empty text or one that is not complete yet."""
    from ..noise.kernel import parse_kernel

    try:
        return parse_kernel(text) if text else None
    except UserError:
        return None


def parse(text: str) -> Any:
    """Read a noise model. This imports torch, if nothing did before."""
    from ..noise import parse_noise

    return parse_noise(text)
