custom_imports = dict(imports=['fg_plugin.registration'], allow_failed_imports=False)
default_scope = 'mmengine'
env_cfg = dict(
    cudnn_benchmark=False,
    # The data sets live in memory: OpenCV has nothing to do, and its threads would only disturb the training.
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, ignore_last=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Without save_best: the configs validate on the test set, as the paper's figures do, which should choose nothing.
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, by_epoch=True, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    curves=dict(type='CurvesHook', interval=50),
    final_metrics=dict(type='FinalMetricsHook'),
)
custom_hooks = [
    dict(type='ChannelsLastHook'),
    dict(type='EpochSeedHook'),
    # Running statistics of batch normalisation, over all processes.
    dict(type='SyncBuffersHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='ThroughputHook'),
]
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='FGVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
