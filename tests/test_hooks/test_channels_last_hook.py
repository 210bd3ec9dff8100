from types import SimpleNamespace

import torch
from torch import nn

from fg_plugin.hooks import ChannelsLastHook


def test_only_what_has_four_dimensions_changes_its_format():
    model = nn.ModuleDict(
        {'flat': nn.Conv2d(3, 4, 3), 'solid': nn.Conv3d(3, 4, 3), 'line': nn.Linear(3, 4), 'norm': nn.BatchNorm2d(4)}
    )
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    parameters = dict(model.named_parameters())
    ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model.flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert not model.flat.weight.is_contiguous()
    assert all(model[name].weight.is_contiguous() for name in ('solid', 'line', 'norm'))
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]
        assert torch.equal(parameter, before[name])
