"""Fixtures that train the toy model of tests/toy, in this process or through the command line tools."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import fg_plugin.registration  # noqa: F401

ROOT = Path(__file__).parents[1]
TOY = ROOT / 'tests' / 'toy'

# Where the toy config's custom_imports look.
sys.path.append(str(TOY))


@pytest.fixture
def toy_config_path() -> Path:
    """Path of the toy config."""
    return TOY / 'toy_config.py'


@pytest.fixture
def toy_runner(tmp_path: Path, toy_config_path: Path) -> Callable[..., Runner]:
    """Builds a Runner of the toy config with some settings replaced, in tmp_path/<run>.

    ``safe=False`` leaves out the hooks of fg_plugin.
    """

    def build(run: str = 'run', safe: bool = True, **settings: Any) -> Runner:
        cfg = Config.fromfile(toy_config_path, lazy_import=False)
        # MMEngine shares logs between runs of one name and second.
        cfg.merge_from_dict({'work_dir': str(tmp_path / run), 'experiment_name': uuid.uuid4().hex, **settings})
        if not safe:
            cfg.custom_hooks = []
            cfg.default_hooks.checkpoint.type = 'CheckpointHook'
        return Runner.from_cfg(cfg)

    return build


@pytest.fixture
def run_tool() -> Callable[..., subprocess.CompletedProcess]:
    """Runs tools/<tool>.py with arguments in a new process, or in ``processes`` of them under torchrun."""

    def run(
        tool: str,
        *arguments: str | Path,
        processes: int = 1,
        torchrun: bool = False,
        max_restarts: int = 0,
        cwd: Path = ROOT,
    ) -> subprocess.CompletedProcess:
        counts = [f'--nproc_per_node={processes}', f'--max-restarts={max_restarts}']
        launch = ['-m', 'torch.distributed.run', *counts, '--standalone'] if torchrun or processes > 1 else []
        command = [sys.executable, *launch, ROOT / 'tools' / f'{tool}.py', *arguments]
        python_path = os.pathsep.join([str(ROOT), str(TOY), os.environ.get('PYTHONPATH', '')])
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, 'PYTHONPATH': python_path, 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run
