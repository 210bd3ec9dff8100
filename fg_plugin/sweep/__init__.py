"""Checks of the conversion over all of timm's architectures."""
