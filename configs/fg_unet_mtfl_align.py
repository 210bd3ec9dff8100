# Model32 with generated filters on D-Align.
_base_ = './fg_unet_mtfl.py'

train_dataloader = dict(dataset=dict(variant='align'))
val_dataloader = dict(dataset=dict(variant='align'))
test_dataloader = dict(dataset=dict(variant='align'))
