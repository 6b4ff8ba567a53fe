"""Run the code of the tutorials, and make the pictures and outputs that they show.

Every block of ``python`` and ``bash`` on a page of ``docs/tutorials`` is run, in order, in a fresh
folder; the blocks of one page share their variables. A block that fails ends the run. A block below
the comment ``<!-- not run: why -->`` is left out. ::

    python docs/run_tutorials.py --write        # minutes per page, as printed on the pages
    python docs/run_tutorials.py --steps 8      # all pages in a minute or two, for a check
    python docs/run_tutorials.py --write docs/tutorials/mri.md

With ``--write``, the comment ``<!-- picture NAME: noisy, denoised, clean -->`` (three Python
expressions, of two axes each) writes ``docs/images/tutorials/NAME-noisy.jpg`` and
``NAME-denoised.jpg``, and a ``text`` block below a block of code gets what that code has printed.
``docs/gallery.md`` is then made of all pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_noise2score import read_image

BASH = shutil.which("bash") or "bash"
DOCS = Path(__file__).parent
PAGES = sorted(p for p in (DOCS / "tutorials").glob("*.md") if p.stem != "index")
IMAGES = DOCS / "images" / "tutorials"
FIGURES = IMAGES / "psnr.json"
JPEG_QUALITY = 82
GALLERY = """# Gallery

Drag the line in a picture, or press the arrow keys, to see it before and after. Every picture is
the result of the [tutorial](tutorials/index.md) that its title names: simulated samples that
everyone has, one or two minutes of training on one processor core, no clean image used. The PSNR
compares with the clean image of the simulator, over its range of grey levels. Results on real
recordings are in [Results](results.md).
"""
SHORT_SIDE = 360  # pixels of a picture are repeated up to about this size
#: fenced code, comments, in the order of the page
BLOCK = re.compile(
    r"^(?:<!-- not run: [^\n]* -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$"
    r"|^<!-- picture (?P<name>[\w-]+): (?P<expressions>[^\n]*) -->$",
    re.MULTILINE | re.DOTALL,
)
TRAINING = (r"--minutes \S+", "--steps {0}"), (r"minutes=[\d.]+", "steps={0}")
POLISH = (r"polish\(([^)=]+)\)", "polish({0}, steps={1})")


class Block(NamedTuple):
    """A block of code, of output, or the comment that asks for a picture."""

    kind: str  # "python", "bash", "text" or "picture"
    text: str  # the code, or the expressions
    span: tuple[int, int]  # where the text lies in the page
    name: str = ""  # of the picture


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page that are run, shown as output, or made into pictures."""
    found = []
    for match in BLOCK.finditer(page):
        if match["name"]:
            found.append(
                Block("picture", match["expressions"], match.span("expressions"), match["name"])
            )
        elif match["language"] in {"python", "bash", "text"} and "<!-- not run" not in match[0]:
            found.append(Block(match["language"], match["code"], match.span("code")))
    return found


def shortened(code: str, steps: int | None) -> str:
    """Return code that trains for so many steps instead of minutes."""
    if steps is None:
        return code
    for pattern, replacement in TRAINING:
        code = re.sub(pattern, replacement.format(steps), code)
    return re.sub(POLISH[0], lambda m: POLISH[1].format(m[1], steps), code)


def run_code(block: Block, names: dict[str, Any], where: str) -> str:
    """Run a block of code, and return what it prints."""
    if block.kind == "bash":
        done = subprocess.run(
            [BASH, "-euo", "pipefail", "-c", block.text],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{where}: {done.stderr or done.stdout}\n{block.text}")
        return done.stdout
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, where, "exec", dont_inherit=True), names)  # noqa: S102
    return printed.getvalue()


def run_page(path: Path, steps: int | None, write: bool) -> float:
    """Run a page in a fresh folder, and return the seconds; with `write`, renew what it shows."""
    begin = time.monotonic()
    page = path.read_text("utf-8")
    names: dict[str, Any] = {"__name__": "tutorial"}
    outputs: list[tuple[Block, str]] = []
    printed = ""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in blocks_of(page):
            where = f"{path.name}, line {page.count(chr(10), 0, block.span[0]) + 1}"
            if block.kind == "picture":
                if write:
                    panels = eval(block.text, {"read_image": read_image, **names})  # noqa: S307
                    write_pictures(
                        block.name, path.name, *(np.asarray(p, np.float64) for p in panels)
                    )
            elif block.kind == "text":
                outputs.append((block, printed))
            else:
                printed = run_code(block._replace(text=shortened(block.text, steps)), names, where)
    if write:
        for block, text in reversed(outputs):
            page = page[: block.span[0]] + text.rstrip() + "\n" + page[block.span[1] :]
        path.write_text(page, "utf-8")
    return time.monotonic() - begin


def write_pictures(
    name: str, page: str, noisy: np.ndarray, denoised: np.ndarray, clean: np.ndarray
) -> None:
    """Write two pictures of the same contrast, and the PSNR of both over the range of the truth."""
    from PIL import Image as Picture

    low, high = np.quantile(clean, [0.002, 0.998])
    times = max(1, round(SHORT_SIDE / min(clean.shape)))
    IMAGES.mkdir(parents=True, exist_ok=True)
    for label, image in (("noisy", noisy), ("denoised", denoised)):
        gray = np.clip((image - low) / (high - low), 0, 1) * 255
        picture = Picture.fromarray(
            np.rint(gray).astype(np.uint8).repeat(times, 0).repeat(times, 1)
        )
        picture.save(IMAGES / f"{name}-{label}.jpg", quality=JPEG_QUALITY, optimize=True)
    figures = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    span = clean.max() - clean.min()
    noise, error = (10 * np.log10(span**2 / np.mean((x - clean) ** 2)) for x in (noisy, denoised))
    figures[name] = {"page": page, "noisy": round(noise, 2), "denoised": round(error, 2)}
    FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n", "utf-8")


def title_of(page: Path) -> str:
    """Return the first heading of a page."""
    return page.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")


def gallery() -> str:
    """Return the page that shows the pictures of all tutorials."""
    figures = json.loads(FIGURES.read_text("utf-8"))
    text = GALLERY
    for name, found in figures.items():
        title = title_of(DOCS / "tutorials" / found["page"])
        text += (
            f"\n## [{title}](tutorials/{found['page']})\n\n"
            '<div class="compare" markdown>\n'
            f"![Noisy](images/tutorials/{name}-noisy.jpg)\n"
            f"![Denoised](images/tutorials/{name}-denoised.jpg)\n"
            "</div>\n\n"
            f"PSNR {found['noisy']:.1f} dB before, {found['denoised']:.1f} dB after.\n"
        )
    return text


def main() -> None:
    """Run all pages, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES)
    parser.add_argument(
        "--steps", type=int, help="training steps, instead of the minutes on the pages"
    )
    parser.add_argument("--write", action="store_true", help="renew pictures, outputs and gallery")
    parser.add_argument("--jobs", type=int, default=1, help="pages that run at the same time")
    args = parser.parse_args()
    if args.write and args.jobs > 1:
        parser.error("with --write one page runs at a time")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with ProcessPoolExecutor(args.jobs) as pool:
        pages = [page.resolve() for page in args.pages]
        seconds = pool.map(run_page, pages, repeat(args.steps), repeat(args.write))
        for page, elapsed in zip(pages, seconds, strict=True):
            print(f"{page.name}: {elapsed:.0f} s", flush=True)
    if args.write:
        (DOCS / "gallery.md").write_text(gallery(), "utf-8")


if __name__ == "__main__":
    main()
