# Table 2: a filter repository of 2 base filters.
_base_ = './fg_mnist_nenc20_s5.py'

model = dict(backbone=dict(convert=dict(num_base_filters=2)))
