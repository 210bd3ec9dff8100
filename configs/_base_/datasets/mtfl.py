# Every epoch is measured on the test set, as in the paper's curves; the last epoch is the result. To choose
# hyperparameters, hold out a part of the training set instead: --cfg-options train_dataloader.dataset.val_size=1000
# val_dataloader.dataset.split=val val_dataloader.dataset.val_size=1000
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    collate_fn=dict(type='batch_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='MTFLLandmarks', data_root='data/mtfl_64', variant='rot', split='train'),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    collate_fn=dict(type='batch_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='MTFLLandmarks', data_root='data/mtfl_64', variant='rot', split='test'),
)
val_evaluator = dict(type='NormalizedMeanError')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
