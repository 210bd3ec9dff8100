"""Lets torch.fx trace a converted network, which then runs outside the scope that holds its codes.

In the graph, the codes are the value of one node, and every generated-filter layer is called by a node that takes them
as an argument. So is a module that the tracer does not look into, if it holds such a layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn
from torch.fx._symbolic_trace import _autowrap_check, _Patcher

from fg_plugin.conditioning import Conditioning, conditioning_of, conditioning_scope
from fg_plugin.generator import FilterGenerator
from fg_plugin.layers import FilterRepoConv


def is_traced(value: Any) -> bool:
    """Return whether ``value`` stands for a tensor of a graph that torch.fx is recording."""
    return isinstance(value, fx.Proxy)


@contextmanager
def traced_scope(owner: nn.Module, generator: FilterGenerator, method: Callable, images: fx.Proxy) -> Iterator[None]:
    """Record the nodes of all that runs inside with the codes that ``generator`` has for ``images``.

    Args:
        owner: The converted network. If its filters are given already (``conditioned_on``), they become constants of
            the graph.
        generator: Its generator.
        method: The host's method that is traced.
        images: The input of the graph.
    """
    tracer: Any = images.tracer
    conditioning = conditioning_of(owner)
    if conditioning is None:
        conditioning = Conditioning(owner, generator(images), running=True)
    elif is_traced(conditioning.codes):
        yield
        return
    call_module, codes = tracer.call_module, conditioning.codes

    def call_conditioned(module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        path = tracer.path_of_module(module)
        leaf = isinstance(module, FilterRepoConv) or tracer.is_leaf_module(module, path)
        if leaf and any(isinstance(part, FilterRepoConv) for part in module.modules()):
            return _record(tracer, module, codes, *args, **kwargs)
        return call_module(module, forward, args, kwargs)

    tracer.call_module = call_conditioned
    try:
        with _Patcher() as patcher, conditioning_scope(conditioning):
            # Functions that the tracer is to record as one node are looked up among the globals of the root's forward,
            # which is not the host's own.
            _autowrap_check(patcher, method.__globals__, tracer._autowrap_function_ids)
            yield
    finally:
        tracer.call_module = call_module


def run_conditioned(modules: Sequence[nn.Module], codes: tuple[Tensor, ...], *args: Any, **kwargs: Any) -> Any:
    """Call the first of ``modules``, of which the others are parts, with filters generated from ``codes``."""
    module = modules[0]
    # A graph that was pickled is traced anew.
    proxy = next(filter(is_traced, (codes, *args)), None)
    if proxy is not None:
        return _record(proxy.tracer, module, codes, *args, **kwargs)
    with conditioning_scope(Conditioning(module, codes)):
        return module(*args, **kwargs)


def _record(tracer: Any, module: nn.Module, codes: Any, *args: Any, **kwargs: Any) -> fx.Proxy:
    """Record the call of ``run_conditioned`` as one node."""
    # What no node names is unused to delete_all_unused_submodules, which deletes it from the network itself, too.
    nodes = [tracer.create_proxy('get_attr', tracer.path_of_module(part), (), {}) for part in module.modules()]
    return tracer.create_proxy('call_function', run_conditioned, (nodes, codes, *args), kwargs)
