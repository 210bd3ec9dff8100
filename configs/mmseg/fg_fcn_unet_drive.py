# Retinal vessels (DRIVE) with mmsegmentation's FCN head and metric, and generated filters in its UNet, half as wide as
# usual. Needs onedl-mmsegmentation besides fg_plugin: pip install -e '.[onedl]' onedl-mmsegmentation
# DRIVE has to be prepared as mmsegmentation's documentation says, in data/DRIVE.
custom_imports = dict(imports=['fg_plugin.registration'], allow_failed_imports=False)
default_scope = 'mmseg'

mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=mean,
        std=std,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    backbone=dict(
        type='FGBackboneWrapper',
        backbone=dict(type='UNet', in_channels=3, base_channels=32, norm_cfg=norm_cfg),
        autoencoder=dict(
            type='Autoencoder',
            in_channels=3,
            kernel_size=3,
            encoder=((16, 1), (32, 2), (32, 2), (32, 2), (64, 2)),
            decoder=('up', 32, 'up', 32, 'up', 32, 'up', 16),
            # Whole images are evaluated crop by crop, and training has few crops in a batch.
            norm='group',
        ),
        neck=dict(type='AEFeatureNeck', norm='group'),
        image_size=64,
        convert=dict(head='lowrank', rank=8, levels='resolution'),
        # The generator sees pixels in [0, 1].
        input_mean=[value / 255 for value in mean],
        input_std=[value / 255 for value in std],
        # mmsegmentation pads with zeros after the normalisation, which is no pixel outside [0, 1].
        reconstruction_weight=1.0,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=32,
        in_index=4,
        channels=32,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=2,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(42, 42)),
)

scale, crop_size = (584, 565), (64, 64)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='DRIVEDataset',
        data_root='data/DRIVE',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='DRIVEDataset',
        data_root='data/DRIVE',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=scale, keep_ratio=True),
            # Ground truth is not resized.
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mDice'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=4000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(type='ReconstructionLossHook'),
    dict(type='NonFiniteLossHook'),
]
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
