# Generated filters on scikit-learn's handwritten digits: nothing to download, less than two minutes on two CPU cores.
_base_ = './demo_digits_baseline.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FGBackboneWrapper',
        backbone=_base_.model.backbone,
        autoencoder=dict(
            type='Autoencoder',
            in_channels=1,
            kernel_size=5,
            encoder=((10, 1), (10, 2)),
            decoder=('up',),
            encoder_act='lrelu',
            decoder_act='relu',
        ),
        neck=dict(
            type='AEFeatureNeck',
            reductions=(((4, 4, 0), (3, 3, 1), (3, 1, 0)), ((2, 2, 0), (3, 3, 1), (3, 1, 0))),
        ),
        image_size=28,
        convert=dict(include=['*'], head='full', num_base_filters=5, init='orthogonal', levels='depth'),
        reconstruction_weight=1.0,
    )
)
