# Model32 with generated filters on D-Rot: D-Rot-FG of Figure 3a and Table 3. The autoencoder is Table 9, the necks are
# Tables 10-14.
_base_ = './unet_mtfl.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FGBackboneWrapper',
        backbone=_base_.model.backbone,
        autoencoder=dict(
            type='Autoencoder',
            in_channels=3,
            kernel_size=3,
            encoder=((64, 1), (64, 2), (96, 2), (96, 2), (128, 2)),
            decoder=('up', 96, 'up', 96, 'up', 64, 'up', 64),
            encoder_act='lrelu',
            decoder_act='relu',
        ),
        neck=dict(type='AEFeatureNeck', reductions=None),
        image_size=64,
        convert=dict(include=['*'], head='full', num_base_filters=None, init='orthogonal', levels='resolution'),
        reconstruction_weight=1.0,
    )
)
