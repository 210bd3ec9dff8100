# Faces drawn by a deterministic generator, with MTFL's five landmarks: nothing to download.
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    collate_fn=dict(type='batch_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='RenderedFaces', split='train'),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    collate_fn=dict(type='batch_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RenderedFaces', split='test', num_images=500),
)
val_evaluator = dict(type='NormalizedMeanError')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
