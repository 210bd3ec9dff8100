custom_imports = dict(imports=['fg_plugin.registration', 'toy_components'], allow_failed_imports=False)
model = dict(type='ToyModel')
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
val_dataloader = test_dataloader
train_dataloader = {**test_dataloader, 'sampler': dict(type='DefaultSampler', shuffle=True)}
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
test_evaluator = dict(type='ToyAccuracy')
val_evaluator = test_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.01))
param_scheduler = dict(type='CosineAnnealingLR', T_max=3, by_epoch=True)
default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', interval=1, save_best='toy/acc', rule='greater'))
custom_hooks = [dict(type='EpochSeedHook'), dict(type='NonFiniteLossHook'), dict(type='ThroughputHook')]
randomness = dict(seed=0)
