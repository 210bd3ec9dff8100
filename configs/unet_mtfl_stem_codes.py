# Model32 on D-Rot with generated filters whose codes come from its own first block instead of an autoencoder.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(type='StemCodesUNet'))
