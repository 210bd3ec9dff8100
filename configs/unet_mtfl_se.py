# Model32 on D-Rot with squeeze-and-excitation, which scales the channels by the image instead of generating filters.
_base_ = './unet_mtfl.py'

model = dict(backbone=dict(type='SEUNet'))
