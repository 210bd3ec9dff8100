"""Give a whole network generated filters, and take them away again."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fg_plugin.conv_selection import ConvRecord, Selection, select_convs
from fg_plugin.convert_convs import build_layers, freeze_convs_, replace_modules_, revert_convs_
from fg_plugin.fusing import allow_fusing_, forbid_fusing_
from fg_plugin.generated_containers import GENERATOR, add_generator_
from fg_plugin.generated_model import Conversion, GeneratedModel, accept_plain_part, check_names, generated_class
from fg_plugin.generator import FilterGenerator
from fg_plugin.host_input import ChannelValues, HostInput, host_input
from fg_plugin.layers import AEFeatureNeck, Autoencoder
from fg_plugin.sharding import check_whole

# A small encoder over a thumbnail: about 0.1 % of the multiplications of a ResNet-18 at 224 x 224.
ENCODER = ((16, 4), (32, 2), (64, 2))
KERNEL_SIZE = 5

# Modules of timm, as (module, class), that compute with the samples of a batch together. This one attends from sample
# to sample, which has no effect only because what it attends to is the same for all of them: a normalisation over a
# single channel leaves nothing of the image. Filters of their own would make each sample depend on the others.
MIXES_BATCH = {('timm.models.csatv2', 'SpatialTransformerBlock')}

IMAGE_SIZE = 64


def convert_(
    model: nn.Module,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    head: str = 'lowrank',
    rank: int = 8,
    num_base_filters: int | float | None = None,
    init: str = 'preserve',
    levels: str | Mapping[str, int] = 'depth',
    encoder: Sequence[tuple[int, int]] = ENCODER,
    image_size: int = IMAGE_SIZE,
    reconstruction_weight: float = 0.0,
    mean: ChannelValues | None = None,
    std: ChannelValues | None = None,
    input_size: Sequence[int] | None = None,
) -> list[ConvRecord]:
    """Let the convolutions of ``model`` generate their filters for each image, in place.

    All checks come before the first change. The network's class becomes a subclass of its own class, with a generator
    as its child ``fg_generator`` and a method ``conditioned_on``. Right after the conversion it computes what it
    computed before, and ``model.parameters()`` holds the new parameters: build the optimizer after it.

    A convolution may run on several rows per sample (windows, views) if those of one sample are next to each other in
    its batch. Where they are not, it stays static. This is found out in evaluation mode: in training, the network
    should use the same order. One that does so only for other sizes than ``input_size`` raises an error there.

    Args:
        model: Any image network. It should be called with one batch of images ``(B, C, H, W)``.
        include: Patterns (``fnmatch``) of the convolutions to convert; None for all that can be.
        exclude: Patterns of those to leave out of them. The classifier of a timm model is always left out, because
            ``reset_classifier`` builds it anew.
        head: ``'full'`` (the paper's; N x M coefficients a sample), ``'residual'`` (static filters, and N x r
            coefficients a sample for r mixtures of the base filters) or ``'lowrank'`` (r numbers a sample).
        rank: r of ``'residual'`` and ``'lowrank'`` heads.
        num_base_filters: Number M of base filters of each layer, or as a float its ratio to the layer's number of
            filters N (0.25: a quarter as many, at least 1); None for N. Fewer are faster, and approximate the original
            filters at first.
        init: ``'preserve'``, or ``'orthogonal'`` to start from scratch as the paper does.
        levels: Which level of the encoder drives which convolution, see ``select_convs``.
        encoder: ``(channels, stride)`` of each level of the encoder.
        image_size: Side of the thumbnail that the encoder sees.
        reconstruction_weight: Factor of the reconstruction loss (1 in eq. 4). With a weight, there is a decoder, and
            the training loop has to add ``fg_plugin.reconstruction_loss(model)``. Without, the task alone trains the
            encoder.
        mean: Mean the network's inputs are normalised with, one value per channel, for pixels in [0, 1]; None for that
            of a timm model's ``pretrained_cfg``.
        std: Standard deviation, likewise.
        input_size: ``(C, H, W)`` of an input; None for that of a timm model.

    Returns:
        One record per ``nn.Conv2d``, see also ``fg_plugin.report``.

    Raises:
        NothingMatchedError: If a pattern names no convolution, or none is left to convert.
        ValueError: If the model is converted already or cannot be, or an option does not fit (the layer is named).
    """
    _check_convertible(model)
    include = None if include is None else _as_patterns('include', include)
    exclude = None if exclude is None else _as_patterns('exclude', exclude)
    host = host_input(model, input_size, mean, std)
    selection, level_sizes = plan(
        model, host, include=include, exclude=exclude, levels=levels, encoder=encoder, image_size=image_size
    )
    generator = _build_generator(selection, host, encoder, image_size, level_sizes, reconstruction_weight)
    code_dims = dict(zip(generator.levels, generator.neck.code_dims, strict=True))
    layers = build_layers(selection, code_dims, head=head, rank=rank, num_base_filters=num_base_filters, init=init)
    parameter = next(model.parameters())
    generator.to(parameter.device, parameter.dtype).train(model.training)
    converted_class = generated_class(type(model))
    # From here on, nothing fails.
    replace_modules_(model, layers)
    forbid_fusing_(model)
    model.__class__ = converted_class
    add_generator_(model, generator)
    model.register_load_state_dict_post_hook(accept_plain_part)
    model.fg_conversion = Conversion(selection.records, host.size)  # type: ignore[assignment]
    _record_(
        model,
        include=include,
        exclude=exclude,
        head=head,
        rank=int(rank),
        num_base_filters=_plain_number(num_base_filters),
        init=init,
        levels=levels if isinstance(levels, str) else dict(levels),
        encoder=encoder,
        image_size=image_size,
        reconstruction_weight=float(reconstruction_weight),
        mean=None if mean is None else host.mean,
        std=None if std is None else host.std,
        input_size=None if input_size is None else host.size,
    )
    return selection.records


def _plain_number(number: int | float | None) -> int | float | None:
    """Return a number that JSON has, of one that NumPy may have made."""
    if number is None:
        return None
    return int(number) if isinstance(number, Integral) else float(number)


def plan(
    model: nn.Module,
    host: HostInput,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    levels: str | Mapping[str, int] = 'depth',
    encoder: Sequence[tuple[int, int]] = ENCODER,
    image_size: int = IMAGE_SIZE,
) -> tuple[Selection, tuple[int, ...]]:
    """Choose the convolutions that ``convert_`` would convert; return them and the sides of the encoder's levels."""
    if not isinstance(image_size, int) or image_size < 1:
        raise ValueError(f'image_size should be an integer >= 1, but got {image_size}.')
    sizes = Autoencoder(host.size[0], KERNEL_SIZE, encoder, None).feature_sizes(image_size)
    selection = select_convs(
        model,
        level_sizes=sizes,
        input_size=host.size,
        include=('*',) if include is None else include,
        exclude=() if exclude is None else exclude,
        levels=levels,
        static=_static_modules(model),
    )
    return selection, sizes


def _static_modules(model: nn.Module) -> dict[str, str]:
    classifiers = (getattr(model, 'pretrained_cfg', None) or {}).get('classifier') or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    static = dict.fromkeys(classifiers, 'it is the classifier, which reset_classifier builds anew')
    for name, module in model.named_modules():
        if (type(module).__module__, type(module).__name__) in MIXES_BATCH:
            static[name] = f'its {type(module).__name__} attends across the batch'
        # timm's heads without pooling: with one, they make a linear layer of the values of its weight.
        if getattr(module, 'use_conv', False) and hasattr(module, 'reset'):
            static[name] = f'its {type(module).__name__} builds it anew in reset_classifier'
    return static


def revert_(model: nn.Module) -> None:
    """Put the original convolutions back, all or none, and make ``model`` an instance of its own class again.

    After ``init='preserve'`` with M = N, it is the original network bit for bit, except for what training has moved.

    Raises:
        ValueError: If ``model`` is not converted, or a layer cannot give its original weight back.
    """
    _check_converted(model)
    revert_convs_(model)
    _restore_class_(model)


@torch.no_grad()
def freeze_(model: nn.Module, images: Tensor | Iterable[Tensor]) -> None:
    """Fix the filters: replace each layer by an ordinary convolution with the mean filters of ``images``.

    The network becomes an instance of its own class again, as fast as before the conversion. For a single image, it
    computes what it computed under ``conditioned_on(image)``. The mean of several is taken before a weight-standardised
    convolution standardises its filters.

    Args:
        model: A converted network.
        images: ``(B, C, H, W)``, or batches of them, normalised as the network's inputs are.

    Raises:
        TypeError: If a batch is no tensor.
        ValueError: If ``model`` is not converted, or there is no image.
    """
    _check_converted(model)
    generator: FilterGenerator = model.fg_generator  # type: ignore[assignment]
    freeze_convs_(model, generator.mean_codes([images] if isinstance(images, Tensor) else images))
    _restore_class_(model)


def _check_convertible(model: nn.Module) -> None:
    if isinstance(model, GeneratedModel):
        raise ValueError(f'The model is converted already ({type(model).__name__}): revert_ it first.')
    wrappers = (DataParallel, DistributedDataParallel, OptimizedModule, torch.jit.ScriptModule, fx.GraphModule)
    for wrapper in wrappers:
        if isinstance(model, wrapper):
            raise ValueError(
                f'The model should be a network as its class defines it, but got: {wrapper.__name__}. Convert the '
                f'network first, and wrap, compile or trace it after that.'
            )
    if 'forward' in vars(model):
        raise ValueError(
            f"{type(model).__name__} should run by the 'forward' of its class, but another one was assigned to the "
            f'instance, which would bypass the generation of filters. Define it in a subclass, or put the network into '
            f'another one: nn.Sequential(network).'
        )
    if isinstance(model, nn.Conv2d):
        raise ValueError(
            'The model should hold convolutions, but is a single one itself. Use fg_plugin.FilterRepoConv.from_conv.'
        )
    check_names(model)
    check_whole(model)
    if next(model.parameters(), None) is None:
        raise ValueError(f'{type(model).__name__} has no parameters, and so no filters to generate.')


def _check_converted(model: nn.Module) -> None:
    if not isinstance(model, GeneratedModel):
        raise ValueError(
            f'The model should be converted by fg_plugin.convert_ or created as fg_<name>, but {type(model).__name__} '
            f'is not.'
        )
    check_whole(model)
    if 'host_class' not in vars(type(model)):
        raise ValueError(
            f'The model should have the class that its conversion gave it, but has got {type(model).__name__} since '
            f'then, such as by a parametrisation of a parameter of its own. Undo that first, by '
            f'torch.nn.utils.parametrize.remove_parametrizations.'
        )
    assigned = vars(model).keys() & vars(type(model)).keys()
    if assigned:
        raise ValueError(
            f"The model should run by the '{min(assigned)}' of its class, but another one was assigned to the "
            f'instance since its conversion, as tools for mixed precision do, which would go on generating filters. '
            f'Undo that first: del model.{min(assigned)}.'
        )


def _as_patterns(name: str, patterns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(patterns, str):
        raise ValueError(f'{name} should be a list of patterns, but got the string {patterns!r}: use [{patterns!r}].')
    return tuple(patterns)


def _build_generator(
    selection: Selection,
    host: HostInput,
    encoder: Sequence[tuple[int, int]],
    image_size: int,
    level_sizes: Sequence[int],
    reconstruction_weight: float,
) -> FilterGenerator:
    levels = sorted(set(selection.levels.values()))
    decoder = None
    if reconstruction_weight > 0:
        decoder = _mirrored(encoder)
    else:
        encoder = encoder[: levels[-1] + 1]
    autoencoder = Autoencoder(host.size[0], KERNEL_SIZE, encoder, decoder, norm='group')
    autoencoder.feature_sizes(image_size)
    neck = AEFeatureNeck(
        [encoder[level][0] for level in levels], [level_sizes[level] for level in levels], norm='group'
    )
    return FilterGenerator(autoencoder, neck, image_size, reconstruction_weight, host.mean, host.std, levels)


def _mirrored(encoder: Sequence[tuple[int, int]]) -> list[int | Literal['up']]:
    """Return the decoder that undoes ``encoder``: its channels and strides in reverse.

    Raises:
        ValueError: For a stride that upsampling by 2 cannot undo.
    """
    steps: list[int | Literal['up']] = []
    for (_, stride), (channels, _) in zip(reversed(encoder), [*reversed(encoder[:-1]), encoder[0]], strict=True):
        if stride & (stride - 1):
            raise ValueError(
                f'The strides of encoder should be powers of 2 for a reconstruction, but got {stride} in {encoder}.'
            )
        steps += ['up'] * (stride.bit_length() - 1)
        steps.append(channels)
    return steps


def _record_(model: Any, **options: Any) -> None:
    """Let what timm saves of ``model`` say that it is converted, and how."""
    _set_architecture_(model, lambda name: name if name.startswith('fg_') else f'fg_{name}')
    if hasattr(model, '_model_args'):
        defaults = {name: parameter.default for name, parameter in inspect.signature(convert_).parameters.items()}
        changed = {f'fg_{name}': value for name, value in options.items() if value != defaults[name]}
        model._model_args = {**model._model_args, **changed}


def _restore_class_(model: Any) -> None:
    allow_fusing_(model)
    delattr(model, GENERATOR)
    del model.fg_conversion
    hooks = model._load_state_dict_post_hooks
    for key in [key for key, hook in hooks.items() if hook is accept_plain_part]:
        del hooks[key]
    model.__class__ = model.host_class
    _set_architecture_(model, lambda name: name.removeprefix('fg_'))
    if hasattr(model, '_model_args'):
        model._model_args = {name: value for name, value in model._model_args.items() if not name.startswith('fg_')}


def _set_architecture_(model: nn.Module, rename: Callable[[str], str]) -> None:
    cfg = getattr(model, 'pretrained_cfg', None)
    if isinstance(cfg, dict) and cfg.get('architecture'):
        cfg['architecture'] = rename(cfg['architecture'])
