"""The generated-filter layers of a model, and which of them are drawn."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from fg_plugin.conv_selection import NothingMatchedError
from fg_plugin.convert_convs import generated_layers
from fg_plugin.inference import LoadedModel
from fg_plugin.layers import FilterRepoConv

# More rows than this make a picture that no screen shows.
MAX_DRAWN = 6


def layers_of(loaded: LoadedModel) -> dict[str, FilterRepoConv]:
    """Return the generated-filter layers by their names in the plain network."""
    host = loaded.host
    return generated_layers(host if hasattr(host, 'fg_generator') else host.backbone)


def drawn_layers(names: Sequence[str], patterns: Sequence[str] | None) -> list[str]:
    """Return the names that ``patterns`` (``fnmatch``) match; for None, at most six from the first to the last.

    Raises:
        NothingMatchedError: If a pattern matches none.
    """
    if patterns is None:
        if len(names) <= MAX_DRAWN:
            return list(names)
        return [names[round(position * (len(names) - 1) / (MAX_DRAWN - 1))] for position in range(MAX_DRAWN)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise NothingMatchedError(
                f'Each pattern of layers should match a generated-filter layer, but {pattern!r} matches none of: '
                f'{", ".join(names)}.'
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
