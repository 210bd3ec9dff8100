# The UNet of Model32 on D-Rot, widened to the multiply-accumulate operations of fg_unet_mtfl.py at inference.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(n=43), head=dict(in_channels=43))
