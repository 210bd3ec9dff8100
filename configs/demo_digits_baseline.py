# The network of Table 4 on scikit-learn's handwritten digits: nothing to download, half a minute on two CPU cores.
_base_ = [
    './_base_/models/mnist_net.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/cosine_adam.py',
    './_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=3e-3))
train_cfg = dict(max_epochs=15)
default_hooks = dict(
    swap=dict(type='SwapEvaluationHook'),
    logger=dict(interval=10),
    curves=dict(interval=10),
)
log_processor = dict(window_size=20, custom_cfg=[dict(data_src='train_accuracy', method_name='mean', window_size=20)])
