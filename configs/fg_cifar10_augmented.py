# Generated filters in the baseline of Figure 4, with augmentation.
_base_ = './fg_cifar10.py'

train_dataloader = dict(
    dataset=dict(transforms=[dict(type='BatchRandomFlip'), dict(type='BatchRandomCrop', padding=4)])
)
