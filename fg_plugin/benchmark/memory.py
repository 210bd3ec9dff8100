"""Peak memory of a call."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def peak_bytes(call: Callable[[], object]) -> int:
    """Return how far the tensors' memory rises above its level at the beginning while ``call`` runs.

    It is the running sum of torch's allocations and deallocations as the profiler records them. That includes what is
    saved for backward, the output, the gradients and every temporary tensor, so that a path cannot hide its patches
    or its generated filters. Input, parameters and what the call's first run keeps are there before, and not counted.
    """
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'trace.json'
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    changes = sorted(
        (event['ts'], index, event['args']['Bytes'])
        for index, event in enumerate(events)
        if event.get('name') == '[memory]'
    )
    level = peak = 0
    for _, _, change in changes:
        level += change
        peak = max(peak, level)
    return peak
