"""The wrapper that gives any registered backbone generated filters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmengine.model import BaseModule, PretrainedInit, initialize
from mmengine.registry import MODELS
from torch import Tensor, nn

from fg_plugin.adopted_layers import adopt_layers_
from fg_plugin.bare_checkpoints import move_bare_keys_
from fg_plugin.conditioning import Conditioning, conditioning_scope, given_conditioning
from fg_plugin.convert_convs import convert_convs_
from fg_plugin.fusing import forbid_fusing_
from fg_plugin.generated_model import GeneratedModel
from fg_plugin.generator import FilterGenerator
from fg_plugin.graph_tracing import is_traced, traced_scope
from fg_plugin.layer_lookup import layers_of
from fg_plugin.plain_checkpoints import accept_plain_weights_
from fg_plugin.plain_init import keep_values, plain_convs
from fg_plugin.sharding import gathered
from fg_plugin.unused_levels import drop_unused_levels_


@MODELS.register_module()
class FGBackboneWrapper(BaseModule):
    """A backbone whose convolutions get their filters from the image (Figure 1).

    The backbone's own code does not change: its convolutions are replaced (``fg_plugin.convert_convs``), and their
    conditioning reaches them through a thread-local scope (``fg_plugin.conditioning``). Levels of the encoder that
    drive no convolution are left out, so that every parameter gets a gradient.

    A backbone that has ``FilterRepoConv`` layers already (by ``conv_cfg=dict(type='FilterRepoConv', ...)``) is not
    converted: the wrapper drives these layers, each with the code of its ``level``, and the others stay static.

    ``load_state_dict`` also takes a checkpoint of the backbone alone (and thereby MMEngine's ``load_from`` one of the
    model without the wrapper): the generator stays as it is, and the filters are those of the checkpoint. Frozen stages
    of a backbone (``frozen_stages``) keep their coefficient heads, too.

    Args:
        backbone: Config of a registered backbone, or a module. A module keeps its weights in ``init_weights``.
        autoencoder: Config of the autoencoder. Its decoder is left out if ``reconstruction_weight`` is 0.
        neck: Config of the neck, without ``in_channels`` and ``in_sizes``, which follow from the autoencoder.
        image_size: Side of the square image the autoencoder sees; other inputs are resized to it for the autoencoder.
        convert: Options of ``convert_convs_``: include, exclude, levels, head, rank, num_base_filters, init. Not for a
            backbone that has ``FilterRepoConv`` layers already.
        reconstruction_weight: Factor of the reconstruction loss in eq. 4.
        input_size: ``(C, H, W)`` of the backbone's input, to trace its shapes; by default the autoencoder's image.
        input_mean: Mean that the input was normalised with, per channel, for pixels in [0, 1] (OpenMMLab's values
            divided by 255); None if the input is in [0, 1] itself.
        input_std: Standard deviation, likewise.
        init_cfg: As in ``BaseModule``.

    Raises:
        ValueError: If only one of ``input_mean`` and ``input_std`` is given, an option does not fit, or a layer that
            the backbone has already does not fit the codes of the neck.
    """

    init_cfg: Any
    # Puts back what an init_cfg of an outer model should not change, while MMEngine initialises.
    _put_back: Callable[[], None] | None = None
    _initialising = False
    # Whether the weights of the backbone were given, not drawn: in the module, or by a checkpoint.
    _is_given = False
    # Prefix of the wrapper's keys in the checkpoint of a bare backbone, while it loads one.
    _bare_prefix: str | None = None

    def __init__(
        self,
        backbone: dict | nn.Module,
        autoencoder: dict,
        neck: dict,
        image_size: int,
        convert: dict | None = None,
        reconstruction_weight: float = 1.0,
        input_size: tuple[int, int, int] | None = None,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        built_here = isinstance(backbone, dict)
        self.backbone = MODELS.build(backbone) if isinstance(backbone, dict) else backbone
        _check_plain(self.backbone)
        self._preserves = (convert or {}).get('init', 'preserve') == 'preserve'
        if reconstruction_weight == 0:
            autoencoder = {**autoencoder, 'decoder': None}
        built_autoencoder = MODELS.build(autoencoder)
        level_sizes = built_autoencoder.feature_sizes(image_size)
        built_neck = MODELS.build({**neck, 'in_channels': built_autoencoder.channels, 'in_sizes': level_sizes})
        self.generator = FilterGenerator(
            built_autoencoder, built_neck, image_size, reconstruction_weight, input_mean, input_std
        )
        if layers_of(self.backbone):
            self._preserves = False
            self.records = adopt_layers_(self.backbone, built_neck.code_dims, convert, reset=built_here)
        else:
            self.records = convert_convs_(
                self.backbone,
                code_dims=built_neck.code_dims,
                level_sizes=level_sizes,
                input_size=input_size or (built_autoencoder.in_channels, image_size, image_size),
                **(convert or {}),
            )
        drop_unused_levels_(self.backbone, self.generator)
        forbid_fusing_(self.backbone)
        # Backbones freeze their stages when they are built and in train(): DistributedDataParallel, which comes in
        # between, would wait for the gradients of the new heads.
        freeze_stages = getattr(self.backbone, '_freeze_stages', None)
        if freeze_stages is not None:
            freeze_stages()
        # A backbone that loaded weights while it was built says so, as mmpretrain's TIMMBackbone does.
        if not built_here or getattr(self.backbone, 'is_init', False):
            self._keep_backbone_()
        self.register_load_state_dict_post_hook(_accept_bare_checkpoint)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the backbone on ``x`` (B, C, H, W) with the filters of each image, or of the open ``conditioned_on``.

        What else the backbone takes is passed on.
        """
        if is_traced(x):
            # Where the wrapper is the root of the graph, these are one symbol each.
            args, kwargs = () if is_traced(args) else args, {} if is_traced(kwargs) else kwargs
            with traced_scope(self, self.generator, type(self.backbone).forward, x):  # type: ignore[arg-type]
                return self.backbone(x, *args, **kwargs)
        given = given_conditioning(self, x.shape[0])
        with conditioning_scope(self.condition(x) if given is None else given):
            return self.backbone(x, *args, **kwargs)

    def condition(self, x: Tensor) -> Conditioning:
        """Return the codes of inputs ``x`` (B, C, H, W), normalised as the backbone's inputs are."""
        return Conditioning(self, self.generator(x))

    def init_weights(self) -> None:
        """Initialise the backbone by its own rules, as if it were not converted.

        Generator and coefficient heads were initialised at construction and keep their values, and so does a backbone
        that was given as a module or has loaded weights: neither an ``init_cfg`` of the wrapper nor one of an
        outer model changes them, except one of type ``'Pretrained'``. Convolutions with fewer base filters than filters
        do not follow an ``init_cfg`` of an outer model either.
        """
        if self.is_init:
            super().init_weights()  # logs that it was called more than once
            return
        if self._put_back is not None:
            self._put_back()
        original: Any = self.init_cfg
        configs = original if isinstance(original, list) else [original] if original else []
        pretrained = [cfg for cfg in configs if cfg['type'] in ('Pretrained', PretrainedInit)]
        put_back = keep_values([*self.generator.parameters(), *(self.backbone.parameters() if self._is_given else ())])
        self.init_cfg = [cfg for cfg in configs if cfg not in pretrained]
        self._initialising = True
        try:
            if self._is_given:
                super().init_weights()
            else:
                with plain_convs(self.backbone, takes_values=self._preserves) as new_parameters:
                    # MMEngine refuses parameters that appear while it initialises.
                    info = self.__dict__.get('_init_info', {})
                    info.update({p: {'init_info': '', 'tmp_mean_value': p.data.mean().cpu()} for p in new_parameters})
                    super().init_weights()
        finally:
            self.init_cfg = original
            self._initialising, self._put_back = False, None
        put_back()
        if pretrained:
            initialize(self, pretrained)

    @property
    def _params_init_info(self) -> Any:
        """MMEngine's record of an initialisation, there while the outermost ``init_weights`` runs."""
        if '_init_info' not in self.__dict__:
            raise AttributeError('_params_init_info')
        return self.__dict__['_init_info']

    @_params_init_info.setter
    def _params_init_info(self, info: Any) -> None:
        # MMEngine sets it on all modules before the init_cfg of an outer model reaches what is inside the wrapper.
        self.__dict__['_init_info'] = info
        if not self._initialising:
            self._put_back = keep_values(self._kept_by_init())

    @_params_init_info.deleter
    def _params_init_info(self) -> None:
        self.__dict__.pop('_init_info', None)
        if self._put_back is not None:
            self._put_back()
            self._put_back = None

    def _kept_by_init(self) -> Iterator[Tensor]:
        yield from self.generator.parameters()
        if self._is_given:
            yield from self.backbone.parameters()
            return
        for layer in layers_of(self.backbone).values():
            yield from layer.coefficient_head.parameters()
            if not layer.preserves_conv:
                yield layer.weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        *_, errors = args
        try:
            bare = move_bare_keys_(state_dict, prefix, self.state_dict().keys(), 'backbone')
        except ValueError as error:
            errors.append(str(error))
            bare = False
        self._bare_prefix = prefix if bare else None
        self._put_back = None
        if any(key.startswith(prefix) for key in state_dict):
            self._keep_backbone_()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _keep_backbone_(self) -> None:
        """Let ``init_weights`` leave the weights that the backbone has."""
        self._is_given = True
        # MMEngine's name for it, also where the backbone is no BaseModule.
        self.backbone.is_init = True

    @contextmanager
    def conditioned_on(self, x: Tensor) -> Iterator[None]:
        """Generate the filters from ``x`` instead of each forward's own input, until the end of the block.

        It holds for forwards in the same thread; others take the filters of their own input.

        Args:
            x: ``(B, C, H, W)``, normalised as the backbone's inputs are: one image per input, or a single one whose
                filters all inputs share.

        Raises:
            RuntimeError: If the wrapper is sharded (``fully_shard``): with gradients, or where a module around it was
                sharded and not the wrapper itself.
        """
        with gathered(self, self.generator):
            conditioning = self.condition(x)
        with conditioning_scope(conditioning):
            yield

    def __getattr__(self, name: str) -> Any:
        """Forward what the wrapper lacks (``out_indices``, ``out_channels``, ``feature_info``, ...) to the backbone."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            # What Python itself looks up, such as __deepcopy__, is about the object it asks.
            if name == 'backbone' or name.startswith('__'):
                raise
            value = getattr(self.backbone, name)
            return partial(_layer_depth, value) if name == 'get_layer_depth' else value


def _check_plain(backbone: nn.Module) -> None:
    # Also in part, such as mmpretrain's TIMMBackbone of an fg_<name>.
    for name, module in backbone.named_modules():
        if isinstance(module, GeneratedModel):
            place = f" as its '{name}'" if name else ''
            raise ValueError(
                f'backbone should be a plain network, but got a {type(module).__name__}{place}, which generates its '
                f'filters already. Use it without FGBackboneWrapper, or fg_plugin.revert_ it first.'
            )


def _accept_bare_checkpoint(wrapper: Any, keys: Any) -> None:
    prefix, wrapper._bare_prefix = wrapper._bare_prefix, None
    if prefix is not None:
        accept_plain_weights_(wrapper.backbone, f'{prefix}backbone.', f'{prefix}generator.', keys.missing_keys)


def _layer_depth(backbones: Callable, param_name: str, prefix: str = '') -> Any:
    """Ask the backbone for the depth of a parameter, for a learning rate by layer, under the name it knows."""
    own = f'{prefix}backbone.'
    return backbones(prefix + param_name[len(own) :] if param_name.startswith(own) else param_name, prefix)
