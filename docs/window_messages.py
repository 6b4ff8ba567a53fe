"""List every message that can appear in the dock, with the file and line that it comes from.

Run ``python docs/window_messages.py``. What a message names, such as a file, is shown as ``{…}``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src" / "napari_noise2score"
#: Packages whose messages no dock shows.
WITHOUT_WINDOW = {"cli", "export", "sample"}
#: Functions and classes whose text a person sees.
SHOWN = {
    "UserError", "DataWarning", "warn", "say", "fail", "note", "setText", "summarize",
    "setInformativeText", "Message",
}  # fmt: skip
NAMED = "{…}"


class Text(NamedTuple):
    """A message, and where it is written."""

    file: str
    line: int
    text: str


def messages() -> list[Text]:
    """Return every message that can appear in the dock."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE)
        if file.parts[0] in WITHOUT_WINDOW:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, text in _texts(tree, of_window=file.parts[0] == "widgets"):
            found.append(Text(str(file), line, text))
    return found


def _texts(tree: ast.AST, *, of_window: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in SHOWN:
                yield from _strings(node.args[0])
        elif isinstance(node, ast.Return) and node.value is not None:
            # sentences are put together in functions, too
            yield from ((n, t) for n, t in _strings(node.value) if _is_sentence(t))
        elif of_window and isinstance(node, ast.Assign):
            yield from ((n, t) for n, t in _strings(node.value) if _is_sentence(t))


def _strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip():
        yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        values = [v.value if isinstance(v, ast.Constant) else NAMED for v in node.values]
        yield node.lineno, "".join(map(str, values))
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body)
        yield from _strings(node.orelse)
    elif isinstance(node, ast.BinOp):
        texts = [next(_strings(side), (node.lineno, NAMED)) for side in (node.left, node.right)]
        yield texts[0][0], "".join(text for _, text in texts)
    elif isinstance(node, ast.Call | ast.List | ast.Tuple):
        for part in [*getattr(node, "args", ()), *getattr(node, "elts", ())]:
            yield from _strings(part)


def _is_sentence(text: str) -> bool:
    return text.count(" ") > 3


def main() -> None:
    """Print the list."""
    for message in messages():
        print(f"{message.file}:{message.line}: {message.text}")


if __name__ == "__main__":
    main()
