# fg_unet_mtfl_light.py with residual heads.
_base_ = './fg_unet_mtfl_light.py'

model = dict(backbone=dict(convert=dict(head='residual', rank=8)))
