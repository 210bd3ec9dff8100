# Model64 with generated filters on D-Rot.
_base_ = './fg_unet_mtfl.py'

model = dict(backbone=dict(backbone=dict(n=64)), head=dict(in_channels=64))
