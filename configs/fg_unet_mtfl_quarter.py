# fg_unet_mtfl_light.py with a quarter as many base filters as filters.
_base_ = './fg_unet_mtfl_light.py'

model = dict(backbone=dict(convert=dict(num_base_filters=0.25)))
