# CIFAR-10 with mmpretrain's classifier, data set and metric, and generated filters in its ResNet-18. Needs mmpretrain
# (or onedl-mmpretrain) besides fg_plugin: pip install -e '.[mm]' mmpretrain
# To start from a trained ResNet-18, give the checkpoint of the plain classifier: --cfg-options load_from=CHECKPOINT
custom_imports = dict(imports=['fg_plugin.registration'], allow_failed_imports=False)
default_scope = 'mmpretrain'

mean, std = [125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255]
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=10, mean=mean, std=std, to_rgb=False),
    backbone=dict(
        type='FGBackboneWrapper',
        backbone=dict(type='ResNet_CIFAR', depth=18, num_stages=4, out_indices=(3,), style='pytorch'),
        autoencoder=dict(
            type='Autoencoder',
            in_channels=3,
            kernel_size=3,
            encoder=((16, 1), (32, 2), (64, 2)),
            decoder=('up', 32, 'up', 16),
        ),
        neck=dict(type='AEFeatureNeck'),
        image_size=32,
        convert=dict(head='lowrank', rank=8),
        # The generator sees pixels in [0, 1].
        input_mean=[value / 255 for value in mean],
        input_std=[value / 255 for value in std],
        reconstruction_weight=1.0,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=10, in_channels=512, loss=dict(type='CrossEntropyLoss', loss_weight=1.0)
    ),
)

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    # The neck's batch normalisation needs two images.
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CIFAR10',
        data_root='data/cifar10',
        split='train',
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CIFAR10', data_root='data/cifar10', split='test', pipeline=[dict(type='PackInputs')]),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, by_epoch=True, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(type='ReconstructionLossHook'),
    dict(type='EpochSeedHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='SwapEvaluationHook'),
]
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'
load_from = None
resume = False
