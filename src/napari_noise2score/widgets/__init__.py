"""The napari docks."""
