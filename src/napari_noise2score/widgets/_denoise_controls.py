"""The buttons and the tick box of the Denoise dock, with a tooltip for each."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton


class DenoiseControls:
    """The buttons that start a job in the Denoise dock, and the choice of an uncertainty."""

    def __init__(self) -> None:
        self.estimate = QPushButton("Estimate from the layer")
        self.estimate.setToolTip(
            "Find the noise family and its parameters in the layer itself: from a time series "
            "if there is one, otherwise from the flat areas of its planes. With a trained model, "
            "the noise level is the one whose result comes closest to the other time points. "
            "Takes a few seconds."
        )
        self.refine = QPushButton("Refine")
        self.refine.setToolTip(
            "Keep the noise family chosen above, with its offset and correlation, and estimate "
            "only its gain (or strength) and read noise from the layer: use this if you know the "
            "kind of noise but not its size. Takes a few seconds."
        )
        self.polish = QCheckBox("first (1 to 2 min)")
        self.polish.setToolTip(
            "Teach a network, for a minute or two, to remove noise of exactly this model from the "
            "denoised layer. It estimates pixels of which the noise leaves little from their "
            "neighbours: very dark MRI, radar and ultrasound speckle, few photons. Choose the "
            "noise model first, as another one needs another polish. A polish that is stopped is "
            "continued the next time."
        )
        self.uncertainty = QCheckBox("as a separate layer")
        self.uncertainty.setToolTip(
            "Also add the standard deviation of every denoised pixel, in grey levels: if the "
            "noise model is right, about two thirds of the pixels differ from the true value by "
            "less than this. Takes about 30 times as long as denoising."
        )
        self.denoise = QPushButton("Denoise")
        self.denoise.setToolTip(
            "Denoise the whole layer in the background and add the result as a new layer. The "
            "original layer does not change."
        )
        self.add_lazy = QPushButton("Add lazy layer")
        self.add_lazy.setToolTip(
            "Add a layer at once that denoises each plane when you first look at it, and keeps "
            "it: for images too large to denoise as a whole. This turns on napari's asynchronous "
            "rendering (Preferences, Experimental), so that the window does not freeze meanwhile."
        )
        self.write = QPushButton("Write OME-Zarr…")
        self.write.setToolTip(
            "Denoise the whole layer into a file of any size, block by block in the background, "
            "and add it as a new layer. To finish a job that was stopped or interrupted by a "
            "crash, choose the same name again."
        )

    @property
    def buttons(self) -> tuple[QPushButton, ...]:
        """Every button that starts a job, and is disabled while one runs."""
        return self.estimate, self.refine, self.denoise, self.add_lazy, self.write

    def estimation_row(self) -> QHBoxLayout:
        """Return a row of the buttons that estimate the noise model."""
        row = QHBoxLayout()
        row.addWidget(self.estimate, stretch=1)
        row.addWidget(self.refine)
        return row

    def denoising_row(self) -> QHBoxLayout:
        """Return a row of the buttons that denoise."""
        row = QHBoxLayout()
        for button in (self.denoise, self.add_lazy, self.write):
            row.addWidget(button)
        return row
