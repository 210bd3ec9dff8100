# fg_unet_mtfl_light.py with the default head of converted networks.
_base_ = './fg_unet_mtfl_light.py'

model = dict(backbone=dict(convert=dict(head='lowrank', rank=8)))
