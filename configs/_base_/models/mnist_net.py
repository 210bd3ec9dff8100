# Table 4.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='BatchDataPreprocessor', channels=1, image_size=28),
    backbone=dict(type='MNISTNet'),
    head=dict(type='LinearClsHead', in_channels=5 * 4 * 4, num_classes=10),
)
