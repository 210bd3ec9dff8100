"""The wrapper that gives any registered backbone generated filters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from fg_plugin.conditioning import Conditioning, conditioning_scope, is_conditioned
from fg_plugin.convert_convs import convert_convs_
from fg_plugin.generated_model import drop_unused_levels_
from fg_plugin.generator import FilterGenerator


@MODELS.register_module()
class FGBackboneWrapper(BaseModule):
    """A backbone whose convolutions get their filters from the image (Figure 1).

    The backbone's own code does not change: its convolutions are replaced (``fg_plugin.convert_convs``), and their
    conditioning reaches them through a thread-local scope (``fg_plugin.conditioning``). Levels of the encoder that
    drive no convolution are left out, so that every parameter gets a gradient.

    Args:
        backbone: Config of a registered backbone, or a module.
        autoencoder: Config of the autoencoder. Its decoder is left out if ``reconstruction_weight`` is 0.
        neck: Config of the neck, without ``in_channels`` and ``in_sizes``, which follow from the autoencoder.
        image_size: Side of the square image the autoencoder sees; other inputs are resized to it for the autoencoder.
        convert: Options of ``convert_convs_``: include, exclude, levels, head, rank, num_base_filters, init.
        reconstruction_weight: Factor of the reconstruction loss in eq. 4.
        input_size: ``(C, H, W)`` of the backbone's input, to trace its shapes; by default the autoencoder's image.
        input_mean: Mean that the input was normalised with, per channel, for pixels in [0, 1] (OpenMMLab's values
            divided by 255); None if the input is in [0, 1] itself.
        input_std: Standard deviation, likewise.
        init_cfg: As in ``BaseModule``.

    Raises:
        ValueError: If only one of ``input_mean`` and ``input_std`` is given, or an option does not fit.
    """

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
        self.backbone = MODELS.build(backbone) if isinstance(backbone, dict) else backbone
        if reconstruction_weight == 0:
            autoencoder = {**autoencoder, 'decoder': None}
        built_autoencoder = MODELS.build(autoencoder)
        level_sizes = built_autoencoder.feature_sizes(image_size)
        built_neck = MODELS.build({**neck, 'in_channels': built_autoencoder.channels, 'in_sizes': level_sizes})
        self.generator = FilterGenerator(
            built_autoencoder, built_neck, image_size, reconstruction_weight, input_mean, input_std
        )
        self.records = convert_convs_(
            self.backbone,
            code_dims=built_neck.code_dims,
            level_sizes=level_sizes,
            input_size=input_size or (built_autoencoder.in_channels, image_size, image_size),
            **(convert or {}),
        )
        drop_unused_levels_(self.backbone, self.generator)

    def forward(self, x: Tensor) -> Any:
        """Run the backbone on ``x`` (B, C, H, W) with the filters of each image, or of the open ``conditioned_on``."""
        if is_conditioned(self, x.shape[0]):
            return self.backbone(x)
        with conditioning_scope(self.condition(x)):
            return self.backbone(x)

    def condition(self, x: Tensor) -> Conditioning:
        """Return the codes of inputs ``x`` (B, C, H, W), normalised as the backbone's inputs are."""
        return Conditioning(self, self.generator(x))

    @contextmanager
    def conditioned_on(self, x: Tensor) -> Iterator[None]:
        """Generate the filters from ``x`` instead of each forward's own input, until the end of the block.

        Args:
            x: ``(B, C, H, W)``, normalised as the backbone's inputs are: one image per input, or a single one whose
                filters all inputs share.
        """
        with conditioning_scope(self.condition(x)):
            yield

    def __getattr__(self, name: str) -> Any:
        """Forward what the wrapper lacks (``out_indices``, ``out_channels``, ``feature_info``, ...) to the backbone."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'backbone':
                raise
            return getattr(self.backbone, name)
