"""Define errors and warnings that users can act on, and explain any exception in one line."""

import errno

MAX_CHARACTERS = 400  # of a message
# messages of torch, its libraries and Python when memory is exhausted
NO_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory",
    "could not create a primitive", "can't start new thread",
)  # fmt: skip


class UserError(ValueError):
    """A mistake of the user, in one line that says what is wrong and what would be right.

    The command line prints the line and exits with code 2; napari shows it as a notification.

    Examples
    --------
    >>> raise UserError("axes 'TY' lack X: name both Y and X")
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: axes 'TY' lack X: name both Y and X
    """


class ReadError(UserError):
    """An input whose pixels or metadata cannot be read: damaged, truncated, or no longer there.

    A job that ends with this error keeps its finished blocks, as the input may return.

    Examples
    --------
    >>> raise ReadError("stack.tif: damaged: 3 of 10 planes can be read")
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.ReadError: stack.tif: damaged: 3 of 10 planes can be read
    """


class DataWarning(UserWarning):
    """Something users should know about their data or result, in one line; it stops no job.

    The command line prints it once; napari shows it as a notification.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     warnings.warn("stack.tif: series 1 of 2 is read", DataWarning, stacklevel=2)
    >>> str(said[0].message)
    'stack.tif: series 1 of 2 is read'
    """


def one_line(text: object) -> str:
    r"""Return a text as one printable line.

    Parameters
    ----------
    text : object
        Converted by ``str``. It may contain any characters, as file names do.

    Returns
    -------
    str
        At most 400 characters, with control characters and line ends escaped.

    Examples
    --------
    >>> print(one_line("a" + chr(10) + "b.tif: damaged"))
    a\nb.tif: damaged
    """
    plain = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in str(text).strip()
    )
    if len(plain) > MAX_CHARACTERS:
        half = (MAX_CHARACTERS - 1) // 2
        plain = f"{plain[:half]}…{plain[-half:]}"
    return plain


def is_memory_error(error: BaseException) -> bool:
    """Return whether an exception means that memory is exhausted.

    Examples
    --------
    >>> is_memory_error(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)
    )


def explain(error: BaseException) -> str | None:
    """Return the message of an exception for the user, or None for a fault of this program.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str or None
        One line, if a file, a name, a number or the computer caused the exception.

    Examples
    --------
    >>> explain(FileNotFoundError(2, "No such file or directory", "a.tif"))
    'a.tif: No such file or directory'
    >>> explain(IndexError("list index out of range")) is None
    True
    """
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, RuntimeError) and "out of memory" in str(error).lower():
        return (
            "the graphics card ran out of memory: close other programs that use it, use a smaller "
            "--tile, or set the device to cpu"
        )
    if is_memory_error(error):
        return "memory ran out: close other programs, or use a smaller --tile"
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        return one_line(f"{error.filename}: {said}" if error.filename else said)
    return None


def quoted(text: str, most: int = 80) -> str:
    r"""Return the beginning of an external text in quotes, safe to embed in a line.

    Examples
    --------
    >>> print(quoted("gain=2" + chr(10) + "offset"))
    'gain=2\noffset'
    """
    return f"'{one_line(text[:most])}'" + "…" * (len(text) > most)
