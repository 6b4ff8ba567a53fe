"""Every file of a folder is denoised in the window; broken ones are named."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from window import (
    button,
    click,
    dock,
    field,
    messages,
    set_noise,
    status,
    wait_until_idle,
)

from napari_noise2score import denoise, read_image
from napari_noise2score.sample import NOISE

pytestmark = pytest.mark.window


@pytest.fixture
def folder(tmp_path, cells):
    """Return a folder with two time series, and a broken file between them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("cell.1.tif", "cell.2.tif", "cell.3.tif"):
        tifffile.imwrite(folder / name, cells[0][:, 0], imagej=True, metadata={"axes": "TYX"})
    (folder / "cell.2.tif").write_bytes((folder / "cell.2.tif").read_bytes()[:500])
    return folder


def test_a_folder_is_denoised_with_a_row_for_each_file(
    viewer, qtbot, session, cells, model, folder, tmp_path
):
    from qtpy.QtWidgets import QLineEdit, QTreeWidget

    viewer.add_image(cells[0][:, 0], name="one of them", axis_labels="tyx")
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Folder"))
    click(qtbot, button(widget, "Denoise the folder"))
    assert "choose the folder with the images" in messages(widget)[-1]
    field(widget, "Images in", QLineEdit).setText(str(folder))
    field(widget, "Results in", QLineEdit).setText(str(tmp_path / "results"))
    click(qtbot, button(widget, "Denoise the folder"))
    wait_until_idle(qtbot, widget)
    table = widget.findChild(QTreeWidget)
    rows = [table.topLevelItem(i) for i in range(table.topLevelItemCount())]
    assert [row.text(0) for row in rows] == ["cell.1.tif", "cell.2.tif", "cell.3.tif"]
    assert [row.text(1) == "done" for row in rows] == [True, False, True]
    assert "2 of 3 files" in status(widget)
    assert "cell.2.tif" in messages(widget)[-1]
    results = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert results == ["cell.1 denoised.ome.zarr", "cell.3 denoised.ome.zarr"]
    written = read_image(tmp_path / "results" / results[0])
    expected = denoise(cells[0][:, 0], model, NOISE, axes="TYX").compute()
    np.testing.assert_allclose(np.asarray(written.data), expected, rtol=1e-4)


def test_a_stopped_folder_goes_on_where_it_was(session, model, folder, tmp_path):
    from napari_noise2score.widgets._folder_section import DONE, folder_steps

    arguments = folder, tmp_path / "results", ".ome.tif", model, NOISE, "cpu"
    steps = folder_steps(*arguments)
    for progress in steps:
        if progress.result is not None and progress.result.state == DONE:
            break
    steps.close()
    first = tmp_path / "results" / "cell.1 denoised.ome.tif"
    assert [path.name for path in (tmp_path / "results").iterdir()] == [first.name]
    written = first.stat().st_mtime_ns
    states = {p.result.file: p.result.state for p in folder_steps(*arguments) if p.result}
    assert [states[f"cell.{n}.tif"] == DONE for n in (1, 2, 3)] == [True, False, True]
    assert first.stat().st_mtime_ns == written
