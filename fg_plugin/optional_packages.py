"""Packages that only a part of fg_plugin needs."""

from importlib.util import find_spec


def require(what: str, extra: str, *modules: str) -> None:
    """Check that ``modules`` can be imported, before any work is done.

    Args:
        what: What needs them, as the beginning of a sentence.
        extra: The extra that installs them.
        modules: Names to import them by.

    Raises:
        ModuleNotFoundError: Names those that are missing, and the extra.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{what} needs {', '.join(missing)}, which is not installed: pip install 'fg-plugin[{extra}]'",
            name=missing[0],
        )
