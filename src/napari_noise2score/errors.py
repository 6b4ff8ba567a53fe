"""The errors and warnings a person can act on."""


class UserError(ValueError):
    """A mistake in what was asked, told in one line: what was wrong and what would be right.

    The command line prints it and exits with 2; napari shows it as a notification.

    Examples
    --------
    >>> raise UserError("axes 'TY' lack X: name both Y and X")
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: axes 'TY' lack X: name both Y and X
    """


class ReadError(UserError):
    """An input whose pixels or metadata cannot be read: damaged, cut off, or gone in mid-job.

    A job that ends so keeps its finished blocks, as the input may come back.

    Examples
    --------
    >>> raise ReadError("stack.tif: damaged: 3 of 10 planes can be read")
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.ReadError: stack.tif: damaged: 3 of 10 planes can be read
    """


class DataWarning(UserWarning):
    """Something a person should know of their data or result, in one line; no job stops for it.

    The command line prints it once, and napari shows it as a notification.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     warnings.warn("stack.tif: series 1 of 2 is read", DataWarning, stacklevel=2)
    >>> str(said[0].message)
    'stack.tif: series 1 of 2 is read'
    """
