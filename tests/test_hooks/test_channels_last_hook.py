from types import SimpleNamespace

import torch
from mmengine.config import Config
from torch import nn
from toy_runs import CONFIG, printed, train, trained_state

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


def test_gradients_of_several_processes_have_the_format_from_the_start(tmp_path):
    cfg = Config.fromfile(CONFIG, lazy_import=False)
    cfg.train_cfg.max_epochs = 1
    # It drops other values where they lie in another order.
    cfg.model.backbone.backbone.dropout = 0
    cfg.dump(tmp_path / 'plain.py')
    cfg.custom_hooks.append(dict(type='ChannelsLastHook'))
    cfg.dump(tmp_path / 'last.py')
    for name in ('plain', 'last'):
        assert train(tmp_path / name, processes=2, config=tmp_path / f'{name}.py') == [0, 0]
    assert 'Grad strides do not match' not in printed(tmp_path / 'last')
    plain, last = (trained_state(tmp_path / name, 'epoch_1.pth')['state_dict'] for name in ('plain', 'last'))
    for key, tensor in plain.items():
        torch.testing.assert_close(last[key], tensor, rtol=0, atol=1e-9, msg=key)
