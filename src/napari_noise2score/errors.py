"""The error a person can act on."""


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
