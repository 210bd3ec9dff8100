"""A trained model by its MMEngine config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

import fg_plugin.registration  # noqa: F401
from fg_plugin.generated_model import GeneratedModel
from fg_plugin.hooks.strict_load_hook import load_strictly
from fg_plugin.inference.checkpoint_files import read_checkpoint, read_metadata
from fg_plugin.inference.loaded_model import LoadedModel
from fg_plugin.inference.tasks import Task, output_names, run_once
from fg_plugin.launch import read_config
from fg_plugin.wrapper import FGBackboneWrapper


class ConfigNetwork(nn.Module):
    """A config's model with the normalisation of its data preprocessor before it, and landmarks decoded after it.

    Args:
        model: An ``ImageClassifier``, ``LandmarkDetector`` or mmsegmentation's ``EncoderDecoder``, or another model
            that returns tensors in the mode 'tensor'.
        mean: Per channel, for pixels in [0, 1]; None without a normalisation.
        std: Likewise.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, model: nn.Module, mean: Tensor | None, std: Tensor | None) -> None:
        super().__init__()
        self.model = model
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        self.codec = getattr(getattr(model, 'head', None), 'codec', None)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Map pixels in [0, 1] to what the backbone takes."""
        if self.mean is None or self.std is None:
            return pixels
        return (pixels - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Any:
        """Return the logits for images ``(B, C, H, W)`` in [0, 1], their heatmaps and landmarks, or features."""
        out = self.model(self.normalise(pixels), mode='tensor')
        return out if self.codec is None else (out, self.codec.decode(out))


def load_config_model(
    path: Path, checkpoint: Path, options: dict[str, Any], input_size: Sequence[int] | None
) -> LoadedModel:
    """Load the model of a config with the weights of ``checkpoint``, see ``load_model``.

    A file that ``fg_plugin.export`` wrote holds the options, and those given here override them.
    """
    stored = read_metadata(checkpoint)
    options = {**stored.get('options', {}), **options}
    model = build_config_model(read_config(path, options))
    weights = read_checkpoint(checkpoint)
    load_strictly(model, weights)
    network = ConfigNetwork(model, *normalisation(model.data_preprocessor)).eval()
    hosts = [module for module in model.modules() if isinstance(module, FGBackboneWrapper | GeneratedModel)]
    size = _input_size(model, hosts, input_size)
    outputs = run_once(network, size, str(path))
    task = _task(network, outputs)
    # Either may be there and be None.
    dataset_meta = (weights.get('meta') or {}).get('dataset_meta') or {}
    classes = stored.get('classes') or dataset_meta.get('classes')
    return LoadedModel(
        source=str(path),
        options=options,
        model=model,
        network=network,
        task=task,
        output_names=output_names(task, outputs),
        input_size=size,
        transform=_Resize(size),
        normalise=network.normalise,
        hosts=hosts,
        classes=None if classes is None else tuple(classes),
    )


def build_config_model(cfg: Config) -> Any:
    """Build the model of ``cfg`` as a Runner does, uninitialised."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = cfg.model
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def normalisation(preprocessor: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return the mean and standard deviation that a data preprocessor normalises with, for pixels in [0, 1].

    OpenMMLab's preprocessors hold them for pixels in [0, 255].
    """
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None or getattr(preprocessor, '_enable_normalize', True) is False:
        return None, None
    return (mean / 255, std / 255) if hasattr(preprocessor, '_enable_normalize') else (mean, std)


def _input_size(model: Any, hosts: Sequence[nn.Module], given: Sequence[int] | None) -> tuple[int, int, int]:
    preprocessor = model.data_preprocessor
    generators = [host.generator for host in hosts if isinstance(host, FGBackboneWrapper)]
    channels = getattr(preprocessor, 'channels', None)
    size = given or getattr(preprocessor, 'image_size', None)
    if generators:
        channels = channels or generators[0].autoencoder.in_channels
    if size is None:
        # Not that of a generator: its encoder may see a thumbnail.
        raise ValueError(
            'The size of the input should be given (--input-size), that of the training, because the data_preprocessor '
            'has no image_size that tells it.'
        )
    return channels or 3, size[0], size[1]


def _task(network: ConfigNetwork, outputs: tuple[Tensor, ...]) -> Task:
    if network.codec is not None:
        return 'landmarks'
    if len(outputs) == 1 and outputs[0].ndim == 2:
        return 'classification'
    if len(outputs) == 1 and outputs[0].ndim == 4 and hasattr(network.model, 'decode_head'):
        return 'segmentation'
    return 'features'


class _Resize:
    def __init__(self, size: tuple[int, int, int]) -> None:
        self.size = [size[1], size[2]]

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        pixels = image if isinstance(image, Tensor) else functional.pil_to_tensor(image).float() / 255
        return functional.resize(pixels, self.size, antialias=True)


def build_test_set(loaded: LoadedModel) -> Any:
    """Build the test set of the config that ``loaded`` is from.

    Raises:
        ValueError: If the config has none.
    """
    cfg = read_config(Path(loaded.source), loaded.options)
    if cfg.get('test_dataloader') is None:
        raise ValueError(f'Images should be given (--images), because {loaded.source} has no test_dataloader.')
    return DATASETS.build(cfg.test_dataloader.dataset)
