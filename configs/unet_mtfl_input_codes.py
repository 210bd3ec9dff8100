# Model32 on D-Rot with generated filters whose codes come from each layer's own input instead of an autoencoder.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(type='InputCodesUNet'))
