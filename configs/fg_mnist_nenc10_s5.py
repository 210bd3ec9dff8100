# Table 1: an encoder with 10 filters a layer.
_base_ = './fg_mnist_nenc20_s5.py'

model = dict(backbone=dict(autoencoder=dict(encoder=((10, 1), (10, 2)))))
