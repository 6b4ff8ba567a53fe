"""The registry of noise families, of this package and of other packages."""

from __future__ import annotations

import inspect
import pkgutil
import sys
import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from ..errors import DataWarning, UserError, one_line
from .family import Form, NoiseFamily

GROUP = "napari_noise2score.noise_families"
"""The entry point group in which another package names its family: ``name = module:Class``."""

_registered: dict[str, type[NoiseFamily]] = {}


def register(family: type[NoiseFamily]) -> type[NoiseFamily]:
    """Add a family to the registry; usable as a decorator of its class.

    Parameters
    ----------
    family : type
        The class of the family.

    Returns
    -------
    type
        The same class.

    Raises
    ------
    UserError
        If another family has the same name, or a required declaration is missing.
    """
    name = getattr(family, "name", None)  # a caller may give anything
    known = find_family(name) if isinstance(name, str) else None
    if known is not None and known is not family:
        raise UserError(f"there is already a noise family called '{family.name}'")
    _registered[family.name] = _checked(family, "register")
    return family


def unregister(name: str) -> None:
    """Remove a family that `register` added."""
    _registered.pop(name, None)


def families() -> tuple[type[NoiseFamily], ...]:
    """Return the classes of all families, the most common first.

    A family of another package that cannot be loaded is left out with a `DataWarning`.

    Returns
    -------
    tuple of type

    Examples
    --------
    >>> [family.name for family in families()][:3]
    ['poisson', 'gaussian', 'gamma']
    """
    found = dict(_of_this_package()) | _registered
    for point in _entry_points():
        if point.name not in found:
            try:
                found[point.name] = _load(point)
            except UserError as error:
                warnings.warn(str(error), DataWarning, stacklevel=2)
    return tuple(sorted(found.values(), key=lambda family: family.position))


def find_family(name: str) -> type[NoiseFamily] | None:
    """Return the class of the family with a name, or None if there is none.

    Parameters
    ----------
    name : str
        As in the text form.

    Returns
    -------
    type or None

    Raises
    ------
    UserError
        If the family is from another package and cannot be loaded.

    Examples
    --------
    >>> find_family("gaussian")
    <class 'napari_noise2score.noise.gaussian.Gaussian'>
    """
    found = _of_this_package().get(name) or _registered.get(name)
    if found is None:
        for point in _entry_points():
            if point.name == name:
                return _load(point)
    return found


def forms() -> tuple[tuple[type[NoiseFamily], Form], ...]:
    """Return every form of every family, in the order of menus and tables."""
    return tuple((family, form) for family in families() for form in family.forms)


def family_of_alias(words: str) -> type[NoiseFamily] | None:
    """Return the family with an alias, such as "MRI"; None if there is none.

    Examples
    --------
    >>> family_of_alias("mri").name
    'rician'
    """
    wanted = _words(words)
    for family in families():
        if wanted and any(wanted == _words(alias) for alias in family.aliases):
            return family
    return None


def _entry_points() -> tuple[EntryPoint, ...]:
    return _entry_points_on(tuple(sys.path))


@cache
def _entry_points_on(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001
    """Return our entry points of the packages installed on a path; a search takes 50 ms."""
    return tuple(entry_points(group=GROUP))


def _words(text: str) -> str:
    return text.lower().replace("_", " ").strip()


@cache
def _of_this_package() -> dict[str, type[NoiseFamily]]:
    """Return the families that are defined in the public modules of this package."""
    package = import_module(__package__)
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.name.startswith("_"):
            continue
        module = import_module(f"{__package__}.{info.name}")
        for value in vars(module).values():
            if (
                inspect.isclass(value)
                and issubclass(value, NoiseFamily)
                and value.__module__ == module.__name__
                and hasattr(value, "name")
            ):
                found[value.name] = value
    return found


def _load(point: EntryPoint) -> type[NoiseFamily]:
    """Return the class that an entry point names.

    Raises
    ------
    UserError
        If it cannot be imported, or is not a noise family.
    """
    origin = f" of the package '{point.dist.name}'" if point.dist else ""
    try:
        family = point.load()
    except Exception as error:  # another package may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            one_line(f"the noise family '{point.name}'{origin} cannot be loaded ({reason})")
        ) from error
    return _checked(family, f"the noise family '{point.name}'{origin}")


def _checked(family: object, what: str) -> type[NoiseFamily]:
    if not (inspect.isclass(family) and issubclass(family, NoiseFamily)):
        raise UserError(f"{what}: {one_line(repr(family))} is not a subclass of NoiseFamily")
    missing = [name for name in ("name", "forms") if not hasattr(family, name)]
    missing += sorted(family.__abstractmethods__)
    if missing:
        raise UserError(f"{what}: {family.__name__} does not define {', '.join(missing)}")
    return family
