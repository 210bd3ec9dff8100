"""Image classification: Tables 4 and 15 with or without generated filters."""

from mmengine.registry import MODELS

from fg_plugin.models.task_model import TaskModel


@MODELS.register_module()
class ImageClassifier(TaskModel):
    """A backbone and a classification head; the loss needs ``data_samples['labels'] (B,)``."""

    target = 'labels'
