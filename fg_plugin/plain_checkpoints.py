"""Weights of a network without generated filters, loaded into its twin with them."""

from torch import nn

from fg_plugin.layer_lookup import layers_of


def generation_prefixes(host: nn.Module, prefix: str, generator_prefix: str) -> tuple[str, ...]:
    """Return what the keys begin with that a converted network's state dict has and its host's does not.

    Args:
        host: The module whose convolutions were replaced.
        prefix: Of the keys of ``host``.
        generator_prefix: Of the keys of the generator.
    """
    heads = [f'{prefix}{name}.coefficient_head.' for name in layers_of(host, aliases=True)]
    return (generator_prefix, *heads)


def accept_plain_weights_(host: nn.Module, prefix: str, generator_prefix: str, missing_keys: list[str]) -> None:
    """After plain weights were loaded: nothing of the generation is missing, and new filters are those weights.

    A layer that gives its convolution back (``preserves_conv``) keeps its coefficient head, whether trained or not: its
    base filters were the convolution's before, too. The head of another layer with as many base filters as filters
    was made for base filters that are gone. It emits the identity from now on, so that the filters are those loaded.

    Args:
        host: The module whose convolutions were replaced.
        prefix: Of the keys of ``host`` in ``missing_keys``.
        generator_prefix: Of the keys of the generator in ``missing_keys``.
        missing_keys: What ``load_state_dict`` did not find, changed in place.
    """
    for name, layer in layers_of(host).items():
        loaded = f'{prefix}{name}.weight' not in missing_keys
        if loaded and not layer.preserves_conv and layer.num_base_filters == layer.out_channels:
            layer.coefficient_head.init_static_(None)
    ours = generation_prefixes(host, prefix, generator_prefix)
    missing_keys[:] = [key for key in missing_keys if not key.startswith(ours)]
