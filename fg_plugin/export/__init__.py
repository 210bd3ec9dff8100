"""Trained models as files for other programs: ONNX, torch.export, safetensors, plain checkpoints."""

from fg_plugin.export.agreement import ExportMismatchError
from fg_plugin.export.export_file import FORMATS, default_path, export_file

__all__ = ['FORMATS', 'ExportMismatchError', 'default_path', 'export_file']
