custom_imports = dict(imports=['fg_plugin.registration', 'toy_fg_components'], allow_failed_imports=False)
default_scope = 'mmengine'
model = dict(
    type='ToyFGClassifier',
    backbone=dict(
        type='FGBackboneWrapper',
        backbone=dict(type='ToyBackbone', dropout=0.2),
        autoencoder=dict(
            type='Autoencoder',
            in_channels=1,
            kernel_size=3,
            encoder=((4, 1), (6, 2)),
            decoder=('up', 4),
            norm='group',
        ),
        neck=dict(type='AEFeatureNeck', norm='group'),
        image_size=8,
        convert=dict(include=['*'], head='lowrank', rank=2, init='orthogonal'),
    ),
    head=dict(type='LinearClsHead', in_channels=24, num_classes=4),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(type='ToyImages'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='batch_collate'),
)
val_dataloader = {
    **train_dataloader,
    'dataset': dict(type='ToyImages', length=13, seed=1),
    'sampler': dict(type='DefaultSampler', shuffle=False),
}
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
    dict(type='CosineAnnealingLR', T_max=4, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2, save_best='accuracy/top1'),
    final_metrics=dict(type='FinalMetricsHook'),
)
custom_hooks = [
    dict(type='EMAHook', momentum=0.1),
    dict(type='EpochSeedHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='ThroughputHook'),
    dict(type='SwapEvaluationHook', interval=2),
]
randomness = dict(seed=0)
