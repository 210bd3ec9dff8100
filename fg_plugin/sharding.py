"""Networks whose parameters fully_shard (FSDP2) has distributed over processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def check_whole(model: nn.Module) -> None:
    """Check that the parameters of ``model`` are whole.

    Raises:
        ValueError: If one is distributed.
    """
    # After a forward, those of the whole network may be gathered.
    sharded = [name or type(model).__name__ for name, module in model.named_modules() if _is_sharded(module)]
    sharded += [name for name, parameter in model.named_parameters() if _is_distributed(parameter)]
    if sharded:
        raise ValueError(
            f"The parameters of {type(model).__name__} should be whole, but those of '{sharded[0]}' are distributed "
            f'over processes. Convert before fully_shard; afterwards, load the weights of '
            f'torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True into a network '
            f'that is not sharded.'
        )


@contextmanager
def gathered(model: Any, generator: nn.Module) -> Iterator[None]:
    """Gather the parameters of ``model`` that are not sharded with one of its parts, as its forward does.

    Args:
        model: A network with generated filters.
        generator: Its generator.

    Raises:
        RuntimeError: If it is sharded and gradients are wanted, which only a forward brings back to the shards; if it
            is sharded with a module around it, whose forward alone gathers the parameters.
    """
    if not _is_sharded(model):
        if any(map(_is_distributed, generator.parameters())) and not any(map(_is_sharded, generator.modules())):
            raise RuntimeError(
                f'conditioned_on of a network under fully_shard should find it sharded itself, but the parameters of '
                f'{type(model).__name__} are sharded with a module around it. Call fully_shard for the network before '
                f'that for the module around it.'
            )
        yield
        return
    if torch.is_grad_enabled():
        raise RuntimeError(
            'conditioned_on of a network under fully_shard should be used without gradients (torch.no_grad()): those '
            'of the codes would not reach the shards.'
        )
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def _is_sharded(module: nn.Module) -> bool:
    return hasattr(module, 'unshard') and hasattr(module, 'reshard')


def _is_distributed(tensor: Tensor) -> bool:
    # A DTensor: importing its class takes long.
    return hasattr(tensor, 'device_mesh')
