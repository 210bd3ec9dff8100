_base_ = './toy_segmentor_config.py'

model = dict(_delete_=True, type='ToyFeatureExtractor', backbone=_base_.model.backbone)
