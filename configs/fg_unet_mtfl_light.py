# Model32 with generated filters on D-Rot, as cheap as converted networks have them and not as the paper does: a quarter
# of the autoencoder's channels and no reconstruction. The filters start static.
_base_ = './fg_unet_mtfl.py'

model = dict(
    backbone=dict(
        autoencoder=dict(encoder=((16, 1), (16, 2), (32, 2), (32, 2), (64, 2)), decoder=None),
        convert=dict(init='preserve'),
        reconstruction_weight=0.0,
    )
)
