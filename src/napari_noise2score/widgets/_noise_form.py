"""Turn a menu and sliders, such as the gain, into the text of a noise model, and back."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QObject, QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QCompleter,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
)

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.corrected import with_correction
from ..noise.correction import Correction
from ..noise.family import Form, NoiseFamily
from ..noise.kernel import Kernel, parse_kernel
from ..noise.parameter import Parameter, grey_level
from ..noise.parse import parse_noise
from ..noise.per_channel import PerChannel
from ..noise.registry import forms
from ._channel_choice import ChannelChoice
from ._eliding import ElidingComboBox
from ._message import WrappedLabel
from ._number import Number

NO_CORRELATION = "none"
# the range of the controls of numbers, where that of the parameter is wider
MIN_POSITIVE, MAX_NUMBER = 1e-5, 1e9

READ_NOISE = grey_level("sigma", "Read noise", "Standard deviation of the noise.", initial=3.0)


class NoiseForm(QObject):
    """Controls for a noise model, and the text that is used.

    The menu offers every family of the registry whose parameters are numbers.

    Parameters
    ----------
    rows : QFormLayout
        Where the controls are added.
    """

    changed = Signal(str)
    channel_changed = Signal()
    family_picked = Signal()  # a person chose another family in the menu

    def __init__(self, rows: QFormLayout) -> None:
        super().__init__(rows.parentWidget())
        self._rows = rows
        self.channel = ChannelChoice()
        self._forms = [
            (family, form)
            for family, form in forms()
            if not any(p.is_file for p in form.parameters)
        ]
        self._family = ElidingComboBox()
        self._search = self._instrument_search()
        self._family.setToolTip(
            "The kind of noise, named after its cause. Its numbers are estimated from the layer."
        )
        for i, (family, form) in enumerate(self._forms):
            self._family.addItem(form.label)
            self._family.setItemData(i, _describe(family, form), Qt.ItemDataRole.ToolTipRole)
        # after the items: before, none of them would be chosen
        self._family.setPlaceholderText("as in the text, or one for each channel")
        self._boxes = {
            (i, p.name): _number(p)
            for i, (_, form) in enumerate(self._forms)
            for p in form.parameters
        }
        self._corrections: tuple[Correction, ...] = ()
        self._correlation = correlation_box()
        self._has_read_noise = QCheckBox()
        self._has_read_noise.setToolTip(
            "Whether the electronics add Gaussian noise to every pixel."
        )
        self._read_noise = _number(READ_NOISE)
        self._text = QLineEdit()
        self._text.setToolTip(
            "The noise model as text. This is what is used; the same text works in Python and on "
            "the command line."
        )
        self._complaint = WrappedLabel()
        self._rows.addRow("Channel", self.channel)
        self._rows.setRowVisible(self.channel, False)
        self._rows.addRow("Instrument", self._search)
        self._rows.addRow("Family", self._family)
        for i, (_, form) in enumerate(self._forms):
            for p in form.parameters:
                self._rows.addRow(p.label, self._boxes[i, p.name])
                self._boxes[i, p.name].valueChanged.connect(self._compose)
        self._rows.addRow("Correlation", self._correlation)
        self._read_row = QHBoxLayout()
        self._read_row.addWidget(self._has_read_noise)
        self._read_row.addWidget(self._read_noise, stretch=1)
        self._rows.addRow("Read noise", self._read_row)
        self._rows.addRow("As text", self._text)
        self._rows.addRow(self._complaint)
        self.channel.changed.connect(self._show_channel)
        self._family.currentIndexChanged.connect(self._show_rows)
        self._family.currentIndexChanged.connect(self._compose)
        self._family.activated.connect(self.family_picked)
        self._correlation.currentTextChanged.connect(self._compose)
        self._has_read_noise.toggled.connect(self._show_rows)
        self._has_read_noise.toggled.connect(self._compose)
        self._read_noise.valueChanged.connect(self._compose)
        self._text.textChanged.connect(self._follow_text)
        self._show_rows()
        self._compose()

    @property
    def text(self) -> str:
        """The noise model as text."""
        return self._text.text()

    def set_text(self, text: str) -> None:
        """Set the noise model; the controls follow if the text can be read."""
        self._text.setText(text)
        self._text.setCursorPosition(0)

    def set_channels(self, names: Sequence[str]) -> None:
        """Offer the channels of an image, if there are several."""
        self.channel.set_names(names)
        self._rows.setRowVisible(self.channel, len(names) > 1)
        self._show_text()

    def _show_channel(self) -> None:
        """Show the noise model of another channel."""
        self._show_text()
        self.channel_changed.emit()

    def _show_text(self) -> None:
        try:
            self._show(parse_noise(self.text))
        except UserError as error:
            self._complain(str(error))

    def _instrument_search(self) -> QLineEdit:
        """Make the control that finds a family by the words that people have for it."""
        self._named: dict[str, int] = {}
        for i, (family, form) in enumerate(self._forms):
            for word in (family.name, *family.aliases):
                self._named.setdefault(f"{word} → {form.label}", i)
        search = QLineEdit()
        search.setPlaceholderText("confocal, sCMOS, MRI, OCT, TEM …")
        search.setToolTip(
            "Type your instrument or method, such as two-photon or ultrasound, and choose a line: "
            "the family is set, and its numbers are estimated from the layer."
        )
        completer = QCompleter(sorted(self._named, key=lambda line: str(line).lower()), search)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.activated.connect(self._take_instrument)
        search.setCompleter(completer)
        return search

    def _take_instrument(self, line: str) -> None:
        """Set the family that a line of the search names."""
        # the completer writes the line into the control after it has said so
        QTimer.singleShot(0, self._search.clear)
        chosen = self._named.get(line)
        if chosen is not None:
            self._family.setCurrentIndex(chosen)
            self.family_picked.emit()

    def _show_rows(self) -> None:
        """Show the controls of the chosen family."""
        chosen = self._family.currentIndex()
        for (i, _), box in self._boxes.items():
            self._rows.setRowVisible(box, i == chosen)
        offered = chosen >= 0 and self._forms[chosen][0].accepts_read_noise
        self._rows.setRowVisible(self._read_row, offered)
        self._read_noise.setEnabled(self._has_read_noise.isChecked())

    def _compose(self) -> None:
        """Write the text of the model that the controls show."""
        chosen = self._family.currentIndex()
        if chosen < 0:
            return
        family, form = self._forms[chosen]
        values = {p.name: self._boxes[chosen, p.name].value() for p in form.parameters}
        given = {p.name: values[p.name] for p in form.parameters if values[p.name] != p.default}
        text = _format_call(family.name, given)
        if kernel := correlation(self._correlation):
            text += f" @ {kernel}"
        if family.accepts_read_noise and self._has_read_noise.isChecked():
            text += " + " + _format_call("gaussian", {"sigma": self._read_noise.value()})
        text = self.channel.with_part(self.text, self._with_corrections(text))
        if text != self.text:
            with QSignalBlocker(self._text):  # the controls need not follow themselves
                self._text.setText(text)
            self._text.setCursorPosition(0)  # show the family rather than the end
            self._complain("")
            try:
                parse_noise(text)  # a kernel is typed letter by letter
            except UserError as error:
                self._complain(str(error))
            self.changed.emit(text)

    def _with_corrections(self, text: str) -> str:
        """Return the text of a model with what the last text undid, which has no controls."""
        if not self._corrections:
            return text
        try:
            return str(with_correction(parse_noise(text), self._corrections[0]))
        except UserError:
            return text

    def _follow_text(self, text: str) -> None:
        """Set the controls to the model of the text."""
        self._complain("")
        self._show_text()
        self.changed.emit(text)

    def _show(self, model: NoiseModel) -> None:
        """Set the controls to a model."""
        chosen_channel = self.channel.channel
        if isinstance(model, PerChannel) and chosen_channel is not None:
            model = model.for_channels(self.channel.count_channels)[chosen_channel]
        if isinstance(model, PerChannel):
            with QSignalBlocker(self._family):
                self._family.setCurrentIndex(-1)  # only the text can express it
            self._show_rows()
            return
        self._corrections = model.corrections
        base, kernel, read_noise = model.components
        values = base.values
        chosen = self._find(base, read_noise)
        controls = [self._family, self._correlation, self._has_read_noise, self._read_noise]
        controls += self._boxes.values()
        blockers = [QSignalBlocker(control) for control in controls]
        self._family.setCurrentIndex(chosen)  # none, if only the text can express it
        if chosen >= 0:
            for name, value in values.items():
                self._boxes[chosen, name].setValue(value)
        if kernel != kernel_of(self._correlation):
            self._correlation.setCurrentText(str(kernel or NO_CORRELATION))
        self._has_read_noise.setChecked(read_noise > 0)
        if read_noise:
            self._read_noise.setValue(read_noise)
        for blocker in blockers:
            blocker.unblock()
        self._show_rows()

    def _find(self, base: NoiseFamily, read_noise: float) -> int:
        """Return the index of the entry for a model, -1 if there is none."""
        for i, (family, form) in enumerate(self._forms):
            same = isinstance(base, family) and {p.name for p in form.parameters} == set(
                base.values
            )
            if same and (family.accepts_read_noise or not read_noise):
                return i
        return -1

    def _complain(self, complaint: str) -> None:
        """Show what is wrong with the text below it; nothing if it is empty."""
        self._complaint.setText(complaint)
        self._rows.setRowVisible(self._complaint, bool(complaint))


def correlation_box() -> QComboBox:
    """Make the control for the correlation of the noise; `correlation` returns its text."""
    box = QComboBox()
    box.setEditable(True)
    box.addItems([NO_CORRELATION, "A", "kernel([[0.1, 0.8, 0.1]])"])
    box.setToolTip(
        "The correlation of the noise between neighbouring pixels: none, A for the 3×3 kernel of "
        "Xie et al., or rows of weights around the pixel itself, in brackets. Without unit."
    )
    box.setMinimumContentsLength(8)
    if (line := box.lineEdit()) is not None:
        line.setToolTip(box.toolTip())
    return box


def correlation(box: QComboBox) -> str:
    """Return the text of a kernel, empty if there is none."""
    text = box.currentText().strip()
    return "" if text == NO_CORRELATION else text


def kernel_of(box: QComboBox) -> Kernel | None:
    """Return the kernel of a control, None if there is none or its text is incomplete."""
    text = correlation(box)
    try:
        return parse_kernel(text) if text else None
    except UserError:
        return None


def _describe(family: type[NoiseFamily], form: Form) -> str:
    """Return the tooltip of an entry of the menu: use, other names, and source."""
    lines = [f"{form.use[:1].upper()}{form.use[1:]}."]
    if family.aliases:
        lines.append(f"Also: {', '.join(family.aliases)}.")
    if family.source:
        lines.append(family.source)
    return "\n".join(lines)


def _number(parameter: Parameter) -> Number:
    """Make the control of a parameter."""
    unit = f" Unit: {parameter.unit}." if parameter.unit else " Without unit."
    bounds = "" if parameter.domain == "a number" else f" {parameter.domain.capitalize()}."
    low = max(parameter.low, MIN_POSITIVE if parameter.above == 0 else -MAX_NUMBER)
    return Number(
        parameter.initial,
        low,
        min(parameter.high, MAX_NUMBER),
        parameter.help + unit + bounds,
        parameter.slider_reach,
    )


def _format_call(name: str, values: dict[str, float]) -> str:
    """Return ``name(key=value, ...)`` without digits that come from rounding."""
    return f"{name}({', '.join(f'{k}={v:.10g}' for k, v in values.items())})"
