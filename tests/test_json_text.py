import json

import numpy as np
import torch

from fg_plugin.json_text import json_text


def test_values_of_numpy_and_torch():
    metrics = {
        'plain': 1.5,
        'of a class each': [1, 2.5],
        'numpy': np.float32(0.5),
        'whole': np.int64(3),
        'array': np.array([[1.0, 2.0]]),
        'tensor': torch.tensor([0.25, 0.75]),
        'scalar': torch.tensor(2),
    }
    text = json_text(metrics)
    assert text.endswith('}\n')
    assert json.loads(text) == {
        'plain': 1.5,
        'of a class each': [1, 2.5],
        'numpy': 0.5,
        'whole': 3,
        'array': [[1.0, 2.0]],
        'tensor': [0.25, 0.75],
        'scalar': 2,
    }
