# Model64 on D-Align.
_base_ = './unet64_mtfl.py'

train_dataloader = dict(dataset=dict(variant='align'))
val_dataloader = dict(dataset=dict(variant='align'))
test_dataloader = dict(dataset=dict(variant='align'))
