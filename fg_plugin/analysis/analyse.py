"""All parts of an analysis, and the folder that they are written to."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fg_plugin.analysis.colouring import colour_samples
from fg_plugin.analysis.coordinates import coefficient_coordinates, filter_coordinates
from fg_plugin.analysis.embedding import MIN_SAMPLES, embed
from fg_plugin.analysis.filter_samples import filter_samples
from fg_plugin.analysis.layer_choice import drawn_layers, layers_of
from fg_plugin.analysis.parts import PARTS
from fg_plugin.analysis.recording import Recording, record, record_swapped
from fg_plugin.analysis.samples import Samples
from fg_plugin.analysis.swap import compare_swapped
from fg_plugin.analysis.variation import COLLAPSE_THRESHOLD, variation
from fg_plugin.atomic_write import write_atomically, write_text_atomically
from fg_plugin.inference import LoadedModel
from fg_plugin.inference.predictions import class_name
from fg_plugin.inference.tasks import Task, predicted_classes
from fg_plugin.layers import FilterRepoConv
from fg_plugin.swapping import other_images
from fg_plugin.visualization.embedding_grid import draw_embedding_grid
from fg_plugin.visualization.figures import save_figure
from fg_plugin.visualization.filter_picture import draw_filters
from fg_plugin.visualization.swap_chart import draw_swap
from fg_plugin.visualization.variation_chart import draw_variation

SUMMARY_NAME = 'analysis.json'

_DRAWN_SAMPLES = 6


def analyse(
    loaded: LoadedModel,
    samples: Samples,
    out_dir: Path,
    *,
    parts: Sequence[str] = PARTS,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Look at the generated filters of a model, and write pictures, raw arrays and ``analysis.json``.

    Args:
        loaded: The model.
        samples: The images.
        out_dir: Folder to write to.
        parts: ``'tsne'``: t-SNE of coefficients, filters and feature maps by layer (Figure 5). ``'swap'``: predictions
            with the filters of another image. ``'variance'``: of the coefficients over samples, by layer.
            ``'filters'``: base filters and generated ones.
        layers: Patterns (``fnmatch``) of the layers to draw for ``'tsne'`` and ``'filters'``; None for at most six.
        seed: Of t-SNE, and of the choice of other images.
        progress: Is told what comes next.

    Returns:
        What ``analysis.json`` holds.

    Raises:
        NothingMatchedError: If a pattern matches no layer.
        ValueError: If the model generates no filters, there are too few samples, or a part is unknown.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f'parts should be among {PARTS}, but got {unknown[0]!r}')
    if len(samples.inputs) < MIN_SAMPLES:
        raise ValueError(f'There should be at least {MIN_SAMPLES} images to compare, but got {len(samples.inputs)}')
    modules = layers_of(loaded)
    drawn = drawn_layers(list(modules), layers)
    out_dir.mkdir(parents=True, exist_ok=True)
    progress(f'running the model on {samples.origin}')
    recording = record(loaded, samples.inputs, drawn if 'tsne' in parts else ())
    summary: dict[str, Any] = {
        'model': {'source': loaded.source, 'options': loaded.options},
        'versions': {package: version(package) for package in ('fg-plugin', 'torch', 'numpy', 'scikit-learn')},
        'images': samples.origin,
        'failed': [{'path': str(failure.path), 'error': failure.error} for failure in samples.failed],
        'seed': seed,
        'layers': list(modules),
        'drawn_layers': drawn,
    }
    chosen = {name: modules[name] for name in drawn}
    if 'variance' in parts:
        progress('variance of the coefficients')
        summary['variance'] = _write_variation(modules, recording, out_dir)
    if 'swap' in parts:
        progress('predictions with the filters of other images')
        summary['swap'] = _write_swap(loaded, samples, recording, out_dir, seed)
    if 'filters' in parts:
        progress('pictures of filters')
        _write_filters(loaded, samples, recording, chosen, out_dir)
    if 'tsne' in parts:
        _write_embeddings(loaded, samples, recording, chosen, out_dir, seed, progress)
    write_text_atomically(out_dir / SUMMARY_NAME, json.dumps(summary, indent=2) + '\n')
    return summary


def _write_variation(modules: Mapping[str, FilterRepoConv], recording: Recording, out_dir: Path) -> dict[str, Any]:
    by_layer = variation(modules, recording.codes)
    ratios = {name: facts['coefficients'] for name, facts in by_layer.items()}
    save_figure(
        draw_variation(ratios, COLLAPSE_THRESHOLD, 'Do the filters depend on their image?'), out_dir / 'variance.png'
    )
    kinds = {kind: np.array([facts[kind] for facts in by_layer.values()]) for kind in ('coefficients', 'filters')}
    _save_arrays(out_dir / 'variance.npz', layers=np.array(list(by_layer)), **kinds)
    return {
        'threshold': COLLAPSE_THRESHOLD,
        'meaning': 'variance over samples / mean square; collapsed: the coefficients differ between samples by less '
        'than 1 % of their size (root of the ratio), so that all samples have nearly the same filters',
        'collapsed': [name for name, facts in by_layer.items() if facts['collapsed']],
        'layers': by_layer,
    }


def _write_swap(
    loaded: LoadedModel, samples: Samples, recording: Recording, out_dir: Path, seed: int
) -> dict[str, Any]:
    others = other_images(len(samples.inputs), seed)
    swapped = record_swapped(loaded, samples.inputs, others)
    result = compare_swapped(loaded.task, samples, recording.answers, swapped)
    arrays = {'own': recording.answers, 'swapped': swapped, 'filters_from': others, 'labels': samples.labels}
    _save_arrays(out_dir / 'swap.npz', **{name: value.numpy() for name, value in arrays.items() if value is not None})
    save_figure(_draw_swap(loaded.task, result), out_dir / 'swap.png')
    return result


def _draw_swap(task: Task, result: Mapping[str, float]) -> Figure:
    title = 'Filters from another image'
    if 'accuracy_own' in result:
        bars = {'own filters': result['accuracy_own'], "another image's": result['accuracy_swapped']}
        return draw_swap(bars, 'accuracy', result['chance'], title)
    if 'agreement' in result:
        what = 'share of the images' if task == 'classification' else 'share of the pixels'
        return draw_swap({'same prediction': result['agreement']}, what, result['chance'], title)
    if 'mean_error_own' in result:
        bars = {'own filters': result['mean_error_own'], "another image's": result['mean_error_swapped']}
        return draw_swap(bars, 'mean landmark error (pixels)', None, title)
    if 'mean_shift' in result:
        return draw_swap({'shift': result['mean_shift']}, 'mean shift of the landmarks (pixels)', None, title)
    shift = {'shift': result['relative_shift']}
    return draw_swap(shift, 'shift of the features, relative to their size', None, title)


def _write_filters(
    loaded: LoadedModel,
    samples: Samples,
    recording: Recording,
    chosen: Mapping[str, FilterRepoConv],
    out_dir: Path,
) -> None:
    positions = _different_samples(loaded, samples, recording.answers)
    captions = [_caption(loaded, samples, position) for position in positions.tolist()]
    arrays: dict[str, np.ndarray] = {'samples': positions.numpy()}
    for name, layer in chosen.items():
        filters = filter_samples(layer, recording.codes[layer.level], positions)
        images = samples.inputs[positions.to(samples.inputs.device)].cpu()
        shown = f'{name}: {layer.num_base_filters} base filters, {layer.out_channels} generated ones'
        save_figure(draw_filters(*filters, images, captions, shown), out_dir / f'filters_{name}.png')
        arrays.update({f'{name}/{kind}': value.numpy() for kind, value in filters._asdict().items()})
    _save_arrays(out_dir / 'filters.npz', **arrays)


def _different_samples(loaded: LoadedModel, samples: Samples, answers: Tensor) -> Tensor:
    """Return the positions of the first sample of each of the first classes, or of samples spread evenly."""
    count = min(_DRAWN_SAMPLES, len(answers))
    if loaded.task == 'classification':
        labels = predicted_classes(answers) if samples.labels is None else samples.labels
        first: dict[int, int] = {}
        for position, label in enumerate(labels.tolist()):
            first.setdefault(label, position)
        if len(first) >= count:
            return torch.tensor([first[label] for label in sorted(first)[:count]])
    return torch.arange(count) * len(answers) // count


def _caption(loaded: LoadedModel, samples: Samples, position: int) -> str:
    if samples.labels is None:
        return f'sample {position}'
    return class_name(loaded, int(samples.labels[position]))[:16]


def _write_embeddings(
    loaded: LoadedModel,
    samples: Samples,
    recording: Recording,
    chosen: Mapping[str, FilterRepoConv],
    out_dir: Path,
    seed: int,
    progress: Callable[[str], None],
) -> None:
    rows: dict[str, dict[str, np.ndarray | None]] = {}
    for name, layer in chosen.items():
        progress(f't-SNE of {name}')
        code = recording.codes[layer.level]
        features = {
            'coefficients': coefficient_coordinates(layer, code),
            'filters': filter_coordinates(layer, code),
            'feature maps': recording.maps[name],
        }
        rows[name] = {kind: embed(values, seed) for kind, values in features.items()}
    colouring = colour_samples(loaded, samples, recording.answers)
    save_figure(draw_embedding_grid(rows, colouring, 't-SNE of generated filters'), out_dir / 'tsne.png')
    points = {
        f'{name}/{kind}': value for name, kinds in rows.items() for kind, value in kinds.items() if value is not None
    }
    _save_arrays(out_dir / 'tsne.npz', **points, colours=colouring.values)


def _save_arrays(path: Path, **arrays: Any) -> None:
    with write_atomically(path) as file:
        np.savez_compressed(file, **arrays)
