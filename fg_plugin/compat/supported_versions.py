"""Says which installed package of OpenMMLab this version of fg_plugin was not tested with."""

import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from mmengine.utils import digit_version

SUPPORTED = {
    'mmengine': ('0.10.7', '0.11'),
    'mmcv': ('2.2.0', '2.3'),
    'mmcv-lite': ('2.2.0', '2.3'),
    'mmpretrain': ('1.2.0', '1.3'),
    'onedl-mmengine': ('0.10.12', '0.11'),
    'onedl-mmcv': ('2.3.6', '2.4'),
    'onedl-mmpretrain': ('1.3.6', '1.4'),
    'onedl-mmsegmentation': ('1.4.2', '1.5'),
}
"""Each distribution's first supported version, and the first one after them; measured in results/clients.md."""

# Before 2.0, mmcv had registries and a runner of its own, in which nothing of fg_plugin would be found.
_FIRST_USABLE = {'mmcv': '2.0', 'mmcv-full': '2.0', 'mmcv-lite': '2.0'}


class UnsupportedVersionWarning(UserWarning):
    """A package is installed in a version that was not tested."""


def installed_versions() -> dict[str, str]:
    """Return the versions of those packages of OpenMMLab that are installed."""
    versions = {}
    for name in {*SUPPORTED, *_FIRST_USABLE}:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def check_versions(versions: Mapping[str, str]) -> None:
    """Warn once of all packages in ``versions`` (by distribution) that are outside of their supported range.

    Raises:
        ImportError: For a version that cannot work.
    """
    outside = []
    for name, installed in sorted(versions.items()):
        first_usable = _FIRST_USABLE.get(name)
        if first_usable is not None and digit_version(installed) < digit_version(first_usable):
            raise ImportError(
                f'{name} should be of version >= {first_usable}, but {installed} is installed, which has no common '
                f"registry with MMEngine. Install one of the two families: pip install 'fg-plugin[mm]' or "
                f"'fg-plugin[onedl]'."
            )
        if name not in SUPPORTED:
            continue
        first, end = SUPPORTED[name]
        if not digit_version(first) <= digit_version(installed) < digit_version(end):
            outside.append(f'{name} {installed} (supported: >= {first}, < {end})')
    if outside:
        warnings.warn(
            f'fg_plugin was not tested with these installed versions and may fail or compute something else: '
            f'{"; ".join(outside)}.',
            UnsupportedVersionWarning,
            stacklevel=2,
        )
