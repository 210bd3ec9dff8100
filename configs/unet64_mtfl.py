# Model64 on D-Rot.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(n=64), head=dict(in_channels=64))
