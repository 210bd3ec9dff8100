_base_ = '../../configs/demo_unet_faces.py'

custom_imports = dict(
    imports=['fg_plugin.registration', 'toy_dense_components'], allow_failed_imports=False, _delete_=True
)
model = dict(_delete_=True, type='ToySegmentor', backbone=_base_.model.backbone)
model['backbone']['backbone']['n'] = 4
