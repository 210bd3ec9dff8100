"""From the command line to an MMEngine Runner: what tools/train.py and tools/test.py share."""

import argparse
import difflib
import errno
import gc
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from fg_plugin.checkpoint_data import as_data
from fg_plugin.compat import explained_sync_batch_norm, prepare_launch
from fg_plugin.error_report import errors_as_messages, message_of
from fg_plugin.hooks import NonFiniteLossError, ResumeError
from fg_plugin.key_values import key_value

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
_USER_ERRORS = (OSError, ValueError, KeyError, TypeError, SyntaxError, NonFiniteLossError)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share to ``parser``."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=key_value,
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config, as in train_cfg.max_epochs=3 "model.backbone.depths=[2,2]"',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes are started')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help='set by old launchers')
    parser.add_argument('--traceback', action='store_true', help='show where an error was raised')


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of ``args`` and apply the common arguments to it.

    Raises:
        FileNotFoundError: If the file does not exist; names the configs with the closest names.
        ValueError: If MMEngine's ``compile`` is set.
    """
    path = Path(args.config)
    cfg = read_config(path, dict(args.cfg_options))
    if cfg.get('compile'):
        raise ValueError(
            f'compile should be left out, but got {cfg.compile}: MMEngine would compile train_step anew for every '
            "learning rate. Add dict(type='CompileBackboneHook') to custom_hooks, which compiles the network only"
        )
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.stem))
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    prepare_launch(cfg, args.launcher)
    return cfg


def read_config(path: Path, options: dict | None = None) -> Config:
    """Read a config and override settings of it by ``options``.

    Raises:
        FileNotFoundError: If the file does not exist; names the configs with the closest names.
        ValueError: If it is of MMEngine's style of imports.
    """
    if not path.is_file():
        raise FileNotFoundError(f'config should be an existing file, but got {path}{_closest_configs(path)}')
    if re.search(r'^\s*with read_base\(\)', path.read_text(encoding='utf-8'), re.MULTILINE):
        raise ValueError(
            f'config should name its bases as in _base_ = [...], but {path} imports them (with read_base()), which is '
            f'not supported'
        )
    cfg = Config.fromfile(path, lazy_import=False)
    if options:
        cfg.merge_from_dict(options)
    return cfg


def go_on_from(cfg: Config, checkpoint: str) -> None:
    """Let the run of ``cfg`` resume a checkpoint, with the seed of that.

    MMEngine takes the seed from the checkpoint, too, but after it has built the sampler and the workers with another.

    Raises:
        ResumeError: If the config has another seed.
        ValueError: If the file is not a whole checkpoint.
    """
    cfg.resume, cfg.load_from = True, checkpoint
    seed = _seed_of(Path(checkpoint))
    if seed is None:
        return
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') not in (None, seed):
        raise ResumeError(
            f'a resumed run should have the seed of its checkpoint, but {checkpoint} has {seed} and the config '
            f'randomness.seed={randomness["seed"]}. Resume with that seed, or start a new training from its weights '
            f'with --cfg-options load_from={checkpoint}'
        )
    cfg.randomness = {**randomness, 'seed': seed}


def build_runner(cfg: Config) -> Runner:
    """Build the Runner of ``cfg``, of the registered class ``runner_type`` if it names one.

    Raises:
        OSError: If nothing can be written to the work directory.
        ValueError: If the model does not fit its config, or holds a synchronised batch normalisation on CPUs.
    """
    if os.environ.get('RANK', '0') == '0':
        _check_work_dir(Path(cfg.work_dir))
    with explained_sync_batch_norm():
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


@contextmanager
def reported_errors(show_traceback: bool) -> Iterator[None]:
    """Print an error of the user's input as one message and exit with status 1; end the process group."""
    with errors_as_messages(show_traceback, _USER_ERRORS, _message):
        yield
    if dist.is_available() and dist.is_initialized():
        # The trained model is in reference cycles, and holds the group. Were they alive at the end of the interpreter,
        # gloo's threads would free tensors without one, which aborted 7 of 40 trainings of two processes after their
        # last checkpoint (torch 2.14; pytorch/pytorch#179291, #190489).
        gc.collect()
        dist.destroy_process_group()


def _seed_of(checkpoint: Path) -> int | None:
    """Return the seed in the file of a checkpoint, None if there is no such file or nothing in it."""
    # Of safetensors, and of a file that is missing or remote, the loading says what is wrong.
    if not checkpoint.is_file() or checkpoint.suffix == '.safetensors':
        return None
    # Mapped into memory, which an old format cannot be, its weights are not read.
    mapped = zipfile.is_zipfile(checkpoint)
    data = as_data(str(checkpoint), lambda: torch.load(checkpoint, 'cpu', weights_only=True, mmap=mapped))
    meta = data.get('meta')
    return meta.get('seed') if isinstance(meta, dict) else None


def _check_work_dir(work_dir: Path) -> None:
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f'work_dir should be a folder that can be written, but {work_dir} is not ({error.strerror}); choose '
            'another with --work-dir',
        ) from error


def _message(error: Exception) -> str:
    text = message_of(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full and '--resume' not in text:
        text += '; the checkpoints that were saved are whole: make room and go on with --resume'
    return text


def _closest_configs(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path('configs')
    known = {known.stem: known for known in sorted(folder.glob('*.py'))}
    close = difflib.get_close_matches(path.stem, known, n=3, cutoff=0.3) or list(known)[:3]
    return f'; the closest are {", ".join(str(known[name]) for name in close)}' if close else ''
