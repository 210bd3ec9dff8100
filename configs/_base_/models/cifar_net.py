# Table 15.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='BatchDataPreprocessor', channels=3, image_size=32),
    backbone=dict(type='CIFARNet'),
    head=dict(type='LinearClsHead', in_channels=256, num_classes=10),
)
