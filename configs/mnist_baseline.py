# The baseline of Tables 1 and 2.
_base_ = [
    './_base_/models/mnist_net.py',
    './_base_/datasets/mnist.py',
    './_base_/schedules/mnist_adam.py',
    './_base_/default_runtime.py',
]

default_hooks = dict(
    swap=dict(type='SwapEvaluationHook'),
)
log_processor = dict(custom_cfg=[dict(data_src='train_accuracy', method_name='mean', window_size=50)])
