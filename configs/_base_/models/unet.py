# Table 8 with n = 32 filters; its last row, the convolution to five maps, is the head.
model = dict(
    type='LandmarkDetector',
    data_preprocessor=dict(type='BatchDataPreprocessor', channels=3, image_size=64),
    backbone=dict(type='UNet', n=32),
    head=dict(type='HeatmapHead', in_channels=32, num_landmarks=5, codec=dict(type='SoftmaxHeatmapCodec')),
)
