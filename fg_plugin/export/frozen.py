"""A checkpoint of the plain host: every generated filter replaced by its mean over given images."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from fg_plugin.convert import freeze_
from fg_plugin.convert_convs import freeze_convs_, replace_modules_
from fg_plugin.export.agreement import example_inputs
from fg_plugin.export.weights import class_names, describe_model, separate_tensors
from fg_plugin.fusing import allow_fusing_
from fg_plugin.generated_model import GeneratedModel
from fg_plugin.inference import LoadedModel
from fg_plugin.inference.checkpoint_files import METADATA_KEY
from fg_plugin.inference.loaded_model import generator_of
from fg_plugin.inference.tasks import compare_answers, output_tensors
from fg_plugin.layers import FilterRepoConv


def frozen_bytes(loaded: LoadedModel, batches: Sequence[Tensor], suffix: str) -> tuple[bytes, str]:
    """Freeze the model and return its weights as a file that its plain host loads, and what the check says.

    Args:
        loaded: The model; it is plain afterwards.
        batches: Inputs ``(B, C, H, W)`` whose mean filters are taken.
        suffix: ``'.safetensors'``, or another one for a file of ``torch.save``.

    Raises:
        ValueError: If the model generates no filters, or there is no image.
    """
    if not loaded.hosts:
        raise ValueError(f'The model should generate filters to be frozen, but {loaded.source} does not.')
    # First, as it says whether the model can be frozen at all.
    plain = build_plain(loaded)
    with torch.no_grad():
        before = [loaded.answers(batch) for batch in batches]
        freeze_hosts_(loaded, batches)
        after = [loaded.answers(batch) for batch in batches]
    tensors = separate_tensors(loaded.model)
    plain.load_state_dict(tensors)
    _check_same(loaded, plain)
    if suffix == '.safetensors':
        # Not all of describe_model: source and options are not those of the plain host.
        content = save(tensors, {'format': 'pt', METADATA_KEY: json.dumps({'classes': class_names(loaded)})})
    else:
        meta = {'fg_plugin': describe_model(loaded, frozen=True)}
        if loaded.classes is not None:
            meta['dataset_meta'] = {'classes': list(loaded.classes)}  # type: ignore[assignment]
        file = io.BytesIO()
        torch.save({'state_dict': tensors, 'meta': meta}, file)
        content = file.getvalue()
    return content, f'a plain {type(plain).__name__} loads it; {_compare(loaded, torch.cat(before), torch.cat(after))}'


def freeze_hosts_(loaded: LoadedModel, batches: Sequence[Tensor]) -> None:
    """Replace what generates filters by the plain network with the mean filters of ``batches``."""
    inputs = [loaded.normalise(batch) for batch in batches]
    for host in loaded.hosts:
        if isinstance(host, GeneratedModel):
            freeze_(host, inputs)
        else:
            plain: Any = host.backbone
            freeze_convs_(plain, generator_of(host).mean_codes(inputs))
            allow_fusing_(plain)
            replace_modules_(loaded.network, {host: plain})
    loaded.hosts = ()


def build_plain(loaded: LoadedModel) -> nn.Module:
    """Build the host of ``loaded``, without generated filters and with other weights."""
    if not loaded.source.endswith('.py'):
        options = {name: value for name, value in loaded.options.items() if not name.startswith('fg_')}
        return timm.create_model(loaded.source.removeprefix('fg_'), **options)
    # Imported here: timm's names work without MMEngine.
    from fg_plugin.inference.config_model import build_config_model
    from fg_plugin.launch import read_config

    cfg = read_config(Path(loaded.source), loaded.options)
    cfg.model = without_wrappers(cfg.model)
    plain = build_config_model(cfg)
    for name, module in plain.named_modules():
        if isinstance(module, FilterRepoConv):
            raise ValueError(
                f'Without FGBackboneWrapper, the model of {loaded.source} should have no generated filters, but has '
                f"'{name}', as where a backbone is one of the fg_ names of timm: wrap the plain backbone instead."
            )
    return plain


def without_wrappers(config: Any) -> Any:
    """Return a model's config with the backbone of each ``FGBackboneWrapper`` in its place.

    A ``conv_cfg`` of type ``FilterRepoConv`` becomes that of ``nn.Conv2d``.
    """
    if isinstance(config, dict):
        if config.get('type') == 'FGBackboneWrapper':
            return without_wrappers(config['backbone'])
        if config.get('type') == 'FilterRepoConv':
            return {'type': 'Conv2d'}
        return {key: without_wrappers(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(without_wrappers(value) for value in config)
    return config


@torch.no_grad()
def _check_same(loaded: LoadedModel, plain: nn.Module) -> None:
    inputs = loaded.normalise(example_inputs(loaded, 3))
    frozen = [output_tensors(model.cpu().eval()(inputs.cpu())) for model in (loaded.model, plain)]
    pairs = list(zip(*frozen, strict=True))
    if not all(torch.equal(out, plain_out) for out, plain_out in pairs):
        largest = max((out - plain_out).abs().max().item() for out, plain_out in pairs)
        raise ValueError(
            f'The frozen network should compute what a plain {type(plain).__name__} with its weights computes, but '
            f'they differ by {largest:.3g}.'
        )


def _compare(loaded: LoadedModel, before: Tensor, after: Tensor) -> str:
    result = compare_answers(loaded.task, before, after)
    images = f'on these {len(before)} images'
    if loaded.task == 'classification':
        return f'{images} it predicts the same class as with generated filters for {result["agreement"]:.1%}'
    if loaded.task == 'segmentation':
        return f'{images} it predicts the same class as with generated filters for {result["agreement"]:.1%} of pixels'
    if loaded.task == 'landmarks':
        return f'{images} it moves the landmarks by {result["mean_shift"]:.2f} pixels on average'
    return f'{images} it moves the features by {result["relative_shift"]:.1%} of their size'
