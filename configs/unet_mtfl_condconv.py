# Model32 on D-Rot with CondConv, whose filters are mixtures of four kernels, chosen by each layer's input.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(type='CondConvUNet'))
