# The UNet landmark detector with generated filters on rendered faces: nothing to download, minutes on two CPU cores. A
# small version of fg_unet_mtfl.py, but for its start: 800 images are too few to train coefficients from scratch, so the
# filters start as those of an ordinary UNet (init='preserve').
_base_ = './demo_unet_faces_baseline.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FGBackboneWrapper',
        backbone=_base_.model.backbone,
        autoencoder=dict(
            type='Autoencoder',
            in_channels=3,
            kernel_size=3,
            encoder=((16, 1), (16, 2), (24, 2), (24, 2), (32, 2)),
            decoder=('up', 24, 'up', 24, 'up', 16, 'up', 16),
            encoder_act='lrelu',
            decoder_act='relu',
        ),
        neck=dict(type='AEFeatureNeck', reductions=None),
        image_size=64,
        convert=dict(include=['*'], head='full', num_base_filters=None, init='preserve', levels='resolution'),
        reconstruction_weight=1.0,
    )
)
