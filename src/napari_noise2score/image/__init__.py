"""An image and where it comes from: axes, file formats, and how anything is written."""
