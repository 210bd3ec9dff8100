# The handwritten digits that come with scikit-learn: nothing to download.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='batch_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='DigitsInMemory', split='train'),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    collate_fn=dict(type='batch_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DigitsInMemory', split='test'),
)
val_evaluator = dict(type='Accuracy')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
