# The UNet of Model32 on D-Rot, widened to the parameters of fg_unet_mtfl_light.py.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(n=72), head=dict(in_channels=72))
