"""Metrics as JSON, whose values may be numbers and arrays of NumPy and PyTorch."""

import json
from typing import Any


def json_text(value: Any) -> str:
    """Return ``value`` as indented JSON with a newline at its end; arrays and tensors become numbers and lists."""
    return json.dumps(value, indent=2, default=lambda item: item.tolist()) + '\n'
