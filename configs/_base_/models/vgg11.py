# VGG11 for 32x32 images (section 4.3.1).
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='BatchDataPreprocessor', channels=3, image_size=32),
    backbone=dict(type='VGG11'),
    head=dict(type='LinearClsHead', in_channels=512, num_classes=10),
)
