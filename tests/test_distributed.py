"""Two processes on the CPU, started by torchrun."""

import json

from mmengine.runner import CheckpointLoader


def test_two_processes_train_and_gather_metrics_like_one(run_tool, toy_config_path, toy_runner, tmp_path):
    work_dir = tmp_path / 'run'
    arguments = ['--work-dir', work_dir, '--launcher', 'pytorch', '--cfg-options', 'train_cfg.max_epochs=2']
    trained = run_tool('train', toy_config_path, *arguments, processes=2, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr

    # Each process takes half of the 23 images, in batches of 4.
    assert CheckpointLoader.load_checkpoint(str(work_dir / 'epoch_2.pth'))['meta']['iter'] == 2 * 3
    # Only the first process writes: one log, each save announced once.
    (log,) = work_dir.rglob('*.log')
    assert log.read_text().count('Saving checkpoint at') == 2

    # One of the two processes sees a padded image, which does not count twice.
    (scalars,) = work_dir.rglob('vis_data/scalars.json')
    together = [json.loads(line) for line in scalars.read_text().splitlines() if 'toy/acc' in line][-1]
    alone = toy_runner('alone', load_from=str(work_dir / 'epoch_2.pth')).test()
    assert alone['toy/images'] == 23
    assert {name: together[name] for name in alone} == alone
