# Generated filters in the baseline of Figure 4, with augmentation. They start static, as those of a converted network,
# and not random as the paper's (see results/choices/README.md, "How CIFAR-10's filters start").
_base_ = './fg_cifar10.py'

model = dict(backbone=dict(convert=dict(init='preserve')))
train_dataloader = dict(
    dataset=dict(transforms=[dict(type='BatchRandomFlip'), dict(type='BatchRandomCrop', padding=4)])
)
