"""Measurements of the layer beside an ordinary convolution (``tools/benchmark.py``)."""
