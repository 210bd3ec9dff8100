# The baseline of Figure 4 with augmentation, which the paper does not mention.
_base_ = './cifar10_baseline.py'

train_dataloader = dict(
    dataset=dict(transforms=[dict(type='BatchRandomFlip'), dict(type='BatchRandomCrop', padding=4)])
)
