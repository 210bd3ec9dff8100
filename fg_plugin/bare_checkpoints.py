"""Checkpoints of a backbone without its wrapper, loaded into the wrapper."""

from collections.abc import Collection
from typing import Any


def move_bare_keys_(state_dict: dict[str, Any], prefix: str, own: Collection[str], child: str) -> bool:
    """Rename the keys of a bare module to those it has as a child of its wrapper, all or none.

    Args:
        state_dict: The checkpoint, changed in place.
        prefix: Of the wrapper's keys in it; other keys stay.
        own: Keys of the wrapper's state dict, without prefix.
        child: Name of the wrapped module in its wrapper.

    Returns:
        Whether the keys were those of a bare module.

    Raises:
        ValueError: If as many keys fit the wrapper as the bare module, which can happen where that has a child of the
            same name.
    """
    given = [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]
    wrapped = sum(key in own for key in given)
    bare = sum(f'{child}.{key}' in own for key in given)
    if bare and bare == wrapped:
        raise ValueError(
            f"The checkpoint should be one of the wrapper or one of its '{child}' alone, but {bare} keys fit the "
            f"former and as many the latter, such as '{prefix}{given[0]}'. Rename them: in the wrapper, the keys of "
            f"the '{child}' begin with '{prefix}{child}.'."
        )
    if bare <= wrapped:
        return False
    moved = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
    state_dict.update({f'{prefix}{child}.{key[len(prefix) :]}': value for key, value in moved.items()})
    return True
