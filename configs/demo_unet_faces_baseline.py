# The UNet of Table 8 with 16 filters on rendered faces: nothing to download.
_base_ = [
    './_base_/models/unet.py',
    './_base_/datasets/rendered_faces.py',
    './_base_/schedules/cosine_adam.py',
    './_base_/default_runtime.py',
]

model = dict(backbone=dict(n=16), head=dict(in_channels=16))
train_dataloader = dict(batch_size=16, dataset=dict(num_images=800))
val_dataloader = dict(batch_size=50, dataset=dict(num_images=200))
test_dataloader = dict(batch_size=50, dataset=dict(num_images=200))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
train_cfg = dict(max_epochs=8)
default_hooks = dict(
    landmarks=dict(type='LandmarkVisualizationHook'),
    swap=dict(type='SwapEvaluationHook', metric=dict(type='NormalizedMeanError')),
    logger=dict(interval=10),
    curves=dict(interval=10),
)
log_processor = dict(window_size=20)
