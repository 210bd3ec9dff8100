# fg_unet_mtfl.py without the decoder and its loss.
_base_ = './fg_unet_mtfl.py'

model = dict(backbone=dict(autoencoder=dict(decoder=None), reconstruction_weight=0.0))
