"""What the task models share: a backbone, a head, and the reconstruction loss of the generators inside."""

from contextlib import AbstractContextManager
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from fg_plugin.conditioning import all_conditioned_on, conditioned_parts
from fg_plugin.generator import pending_reconstruction_loss


class TaskModel(BaseModel):
    """A backbone and a head, trained with ``L = L_rec + L_task`` (eq. 4).

    The model does not know whether its backbone generates filters. Where it does, the pending reconstruction loss
    becomes one more loss term, ``loss_rec``.

    Args:
        backbone: A backbone that returns a tuple of feature maps, or its config.
        head: The head, or its config.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: MMEngine's initialisation config.
    """

    target: str
    """Name of the ground truth in ``data_samples`` that the loss needs."""

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor or {'type': 'BatchDataPreprocessor'}, init_cfg)
        self.backbone: Any = MODELS.build(backbone) if isinstance(backbone, dict) else backbone
        self.head: Any = MODELS.build(head) if isinstance(head, dict) else head

    def forward(
        self, inputs: Tensor, data_samples: dict[str, Tensor] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[dict]:
        """Runs the model.

        Args:
            inputs: Images ``(B, C, H, W)`` as float, after the data preprocessor.
            data_samples: Ground truth of the batch; optional except for the loss.
            mode: ``'tensor'`` gives the head's raw output, ``'loss'`` a dict of loss terms, ``'predict'`` one dict
                an image.

        Raises:
            ValueError: If ``mode`` is another word, or the loss is asked for without ground truth.
        """
        if mode not in ('tensor', 'loss', 'predict'):
            raise ValueError(f"mode should be 'tensor', 'loss' or 'predict', but got {mode!r}")
        if mode == 'loss' and (data_samples is None or self.target not in data_samples):
            got = 'None' if data_samples is None else f'the keys {sorted(data_samples)}'
            raise ValueError(
                f"data_samples should hold {self.target!r} for mode='loss', but got {got}; use a data set with ground "
                "truth, or mode='predict'"
            )
        feats = self.extract_feat(inputs)
        if mode == 'tensor':
            return self.head(feats)
        if mode == 'predict':
            return self.head.predict(feats, data_samples)
        losses = self.head.loss(feats, data_samples)
        reconstruction = pending_reconstruction_loss(self)
        if reconstruction is not None:
            losses['loss_rec'] = reconstruction
        return losses

    def conditioned_on(self, inputs: Tensor) -> AbstractContextManager[None]:
        """Generate the filters from other images than the input, for the length of a ``with`` block.

        Args:
            inputs: Images ``(B, C, H, W)`` after the data preprocessor, one an input or a single one for all.

        Raises:
            TypeError: If no part of the model generates filters.
        """
        parts = conditioned_parts(self)
        if not parts:
            raise TypeError(
                f'backbone should be an FGBackboneWrapper or hold a converted network to take filters from other '
                f'images, but got {type(self.backbone).__name__}'
            )
        return all_conditioned_on(parts, inputs)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The backbone's feature maps."""
        feats = self.backbone(inputs)
        return (feats,) if isinstance(feats, Tensor) else tuple(feats)
