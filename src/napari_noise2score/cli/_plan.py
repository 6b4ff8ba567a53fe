"""Which file each input is written to, checked before the first is begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

MAX_OPENED_FIRST = 200  # files of a folder that are opened and checked before the first is denoised


def plan(
    source: str,
    axes: str | None,
    output: Path,
    replace_existing: bool,
    same: bool = False,
    check: Callable[[Any], None] = lambda image: None,
    inputs: Sequence[Path] = (),
    only_zarr: bool = False,
    series: str | None = None,
) -> list[tuple[Path | str, int | None, Path]]:
    """Return every input with the output it will have; check them before the first is begun."""
    import numpy as np

    from ..image.files import find_images, read_image, series_numbers
    from ..image.output import check_output
    from ..image.paths import local_path
    from ..image.write import SUFFIXES, check_image_output

    paths = find_images(source)
    read = [(path, number) for path in paths for number in series_numbers(path, series)]
    folder = local_path(source)
    every = len(read) > len(paths)
    many = len(read) > 1 or (folder is not None and folder.is_dir() and paths[0] != folder)
    targets = [output]
    if many and output.suffix.lower() in SUFFIXES:
        raise UserError(f"{output}: several images are written, a file for each; name a folder")
    if many:
        targets = [
            output / _result_name(path, same, number if every else None) for path, number in read
        ]
        if len(set(targets)) < len(targets):
            raise UserError(f"{source}: some images differ only in their ending; rename them")
    # of a large folder the names are all checked, and the images only as far as takes seconds
    step = -(-len(read) // MAX_OPENED_FIRST)
    for count, ((path, number), target) in enumerate(zip(read, targets, strict=True)):
        if only_zarr and target.suffix.lower() != ".zarr":
            raise UserError(f"{target}: only .ome.zarr and .zarr are written by workers")
        if count % step:
            check_output(target, inputs=[path, *inputs], overwrite=replace_existing)
            continue
        image = read_image(path, axes, number)
        kind = image.data.dtype if same else np.dtype("float32")
        # what is there already may be this very result, or what is left of it
        check_image_output(target, image, kind, replace_existing, inputs)
        check(image)
    return [(path, number, target) for (path, number), target in zip(read, targets, strict=True)]


def write_all(
    todo: list[tuple[Path | str, int | None, Path]],
    axes: str | None,
    overwrite: bool,
    fill: Callable[[Any, Any, str], None],
    describe: Callable[[Any], Any],
) -> None:
    """Fill one output file for each input."""
    import numpy as np

    from ..image.files import read_image
    from ..image.write import open_output

    for path, number, target in todo:
        image = read_image(path, axes, number)
        with open_output(target, describe(image), np.dtype("float32"), overwrite) as array:
            fill(array, image, Path(path).name)


def _result_name(path: Path | str, same: bool, number: int | None = None) -> str:
    """Return the input's own name, but for formats that cannot hold floating point numbers."""
    path = Path(path)
    if number is not None:
        stem = path.name.removesuffix(path.suffix).removesuffix(".ome")
        return f"{stem}-series{number}{path.name[len(stem) :]}"
    if path.suffix.lower() in (".jpg", ".jpeg") or (path.suffix.lower() == ".png" and not same):
        return f"{path.stem}.tif"
    return path.name
