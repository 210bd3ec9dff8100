"""What a measurement depends on besides the code."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch


def environment() -> dict[str, object]:
    """Return the versions, the processor, the number of threads and the command of this process."""
    return {
        'python': platform.python_version(),
        **{package: version(package) for package in ('torch', 'timm', 'numpy')},
        'cpu': cpu_model(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cpu_count': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'command': ' '.join(['python', *sys.argv]),
    }


def cpu_model(cpuinfo: Path = Path('/proc/cpuinfo')) -> str:
    """Return the processor's name: from ``/proc/cpuinfo`` where there is one."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor()
