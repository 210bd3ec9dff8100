# The baseline of Figure 4.
_base_ = [
    './_base_/models/cifar_net.py',
    './_base_/datasets/cifar10.py',
    './_base_/schedules/cosine_adam.py',
    './_base_/default_runtime.py',
]

default_hooks = dict(
    swap=dict(type='SwapEvaluationHook'),
)
log_processor = dict(custom_cfg=[dict(data_src='train_accuracy', method_name='mean', window_size=50)])
