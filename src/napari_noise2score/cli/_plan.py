"""Choose the output file of each input, and check all of them before work begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

MAX_FILES_OPENED_IN_ADVANCE = 200  # of a folder, to check them before work begins


def plan(
    source: str,
    axes: str | None,
    output: Path,
    replace_existing: bool,
    same: bool = False,
    check: Callable[[Any], None] | None = None,
    inputs: Sequence[Path] = (),
    by_workers: bool = False,
    series: str | None = None,
) -> list[tuple[Path | str, int | None, Path]]:
    """Return path, series number and output of each input, all checked before work begins."""
    import numpy as np

    from ..image.files import find_images, read_image, series_numbers
    from ..image.output import check_output
    from ..image.paths import local_path
    from ..image.system import comparable
    from ..image.write import SUFFIXES, check_image_output

    paths = find_images(source)
    read = [(path, number) for path in paths for number in series_numbers(path, series)]
    folder = local_path(source)
    every = len(read) > len(paths)
    many = len(read) > 1 or (folder is not None and folder.is_dir() and paths[0] != folder)
    targets = [output]
    if many and output.suffix.lower() in SUFFIXES:
        raise UserError(f"{output}: each image gets a file of its own; name a folder")
    if many:
        targets = [
            output / _result_name(path, same, number if every else None) for path, number in read
        ]
        if len({comparable(target) for target in targets}) < len(targets):
            raise UserError(
                f"{source}: some file names differ only in their suffix, or in upper and lower "
                "case; rename them"
            )
    if by_workers:
        from ..denoising.jobs import check_workers_can_write

        for target in targets:
            check_workers_can_write(target)
    # in a large folder, all names are checked but only some images are opened
    step = -(-len(read) // MAX_FILES_OPENED_IN_ADVANCE)
    for count, ((path, number), target) in enumerate(zip(read, targets, strict=True)):
        if count % step:
            check_output(target, inputs=[path, *inputs], overwrite=replace_existing)
            continue
        image = read_image(path, axes, number)
        kind = image.data.dtype if same else np.dtype("float32")
        # an existing output may be the finished or incomplete result of this very job
        check_image_output(target, image, kind, replace_existing, inputs)
        if check is not None:
            check(image)
    return [(path, number, target) for (path, number), target in zip(read, targets, strict=True)]


def write_all(
    todo: list[tuple[Path | str, int | None, Path]],
    axes: str | None,
    overwrite: bool,
    fill: Callable[[Any, Any, str], None],
    describe: Callable[[Any], Any],
) -> None:
    """Write one output file for each input."""
    import numpy as np

    from ..image.files import read_image
    from ..image.write import open_output

    for path, number, target in todo:
        image = read_image(path, axes, number)
        with open_output(target, describe(image), np.dtype("float32"), overwrite) as array:
            fill(array, image, Path(path).name)


def _result_name(path: Path | str, same: bool, number: int | None = None) -> str:
    """Return the name of the input, with another suffix if its format cannot hold the result."""
    from ..image.formats import format_of
    from ..image.paths import file_of, local_path
    from ..image.write import SUFFIXES, suffix_of

    file = local_path(path)
    if file is None:
        return Path(path).name
    kind, name = format_of(file), file_of(file).name
    if file_of(file) != file:
        name = f"{file_of(file).stem}-{file.name}"  # an array inside a file
    own = next((s for s in kind.suffixes[::-1] if name.lower().endswith(s)), "") if kind else ""
    ending = suffix_of(name)
    stem = name[: len(name) - len(own)].removesuffix(".ome")
    if ending not in SUFFIXES or (ending == ".png" and not same):
        name = f"{stem}{kind.result if kind else '.tif'}"
    return name if number is None else f"{stem}-series{number}{name[len(stem) :]}"
