import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torchvision.io import write_png

ROOT = Path(__file__).parents[1]
FINETUNE = ROOT / 'examples' / 'finetune_timm.py'
QUICK = ['--model', 'test_resnet', '--plain-epochs', '1', '--epochs', '1', '--max-steps', '2', '--batch-size', '8']


@pytest.fixture
def finetune(tmp_path, monkeypatch, capsys):
    """Runs examples/finetune_timm.py in this process with arguments, and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(FINETUNE), '--out', str(tmp_path / 'out'), *map(str, arguments)])
        runpy.run_path(str(FINETUNE), run_name='__main__')
        return capsys.readouterr().out

    return run


def accuracies(output):
    return [float(value) for value in re.findall(r'accuracy.* ([\d.]+) %', output)]


def test_converts_fine_tunes_and_saves(finetune, tmp_path):
    output = finetune(*QUICK)
    before, converted, tuned, swapped = accuracies(output)
    assert converted == before
    assert all(0 <= value <= 100 for value in (tuned, swapped))
    assert '15 of 15 convolutions have generated filters' in output
    model = timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True)
    assert type(model).__name__ == 'FGResNet'
    assert model.fg_generator.reconstruction_weight == 1


def test_heads_and_generator_have_rates_of_their_own(finetune, tmp_path):
    finetune(*QUICK, '--head', 'residual', '--head-lr', '0', '--generator-lr', '0')
    model = timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True)
    # It starts at zero, and does not learn here.
    assert not model.conv1[0].coefficient_head.linear.weight.any()


def test_an_option_of_the_conversion_is_checked_before_the_training(finetune, capsys):
    with pytest.raises(SystemExit, match=r"'conv1\.0' cannot be converted: rank should be an integer >= 1, but got 0"):
        finetune(*QUICK, '--rank', '0')
    assert 'loss' not in capsys.readouterr().out


def test_images_of_a_size_that_the_decoder_cannot_return_to(finetune):
    assert len(accuracies(finetune(*QUICK, '--image-size', '40'))) == 4


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        (['--model', 'resnet_18'], '--model should be a timm architecture with a convolution, but got resnet_18'),
        (['--data-dir', 'nowhere'], "No such file or directory: 'nowhere/train'"),
        (['--checkpoint', 'nowhere.pth'], '--checkpoint should be a file, but nowhere.pth is missing'),
        (['--epochs', '0'], '--epochs should be at least 1, but got 0'),
        (['--max-steps', '0'], '--max-steps should be at least 1, but got 0'),
        (['--plain-epochs', '-1'], '--plain-epochs should be at least 0, but got -1'),
        (['--batch-size', '9999'], '--batch-size should be at most 1437, the number of images, but got 9999'),
        (['--reconstruction-weight', '-1'], 'reconstruction_weight should be >= 0, but got -1.0'),
    ],
)
def test_bad_input_ends_in_one_line(finetune, capsys, arguments, error):
    with pytest.raises(SystemExit) as stop:
        finetune(*QUICK, *arguments)
    message = f'{stop.value.code}\n{capsys.readouterr().err}'
    assert error in message


def test_no_plain_epoch_skips_the_first_training(finetune):
    output = finetune(*QUICK, '--plain-epochs', '0')
    assert output.count('epoch 1/1:') == 1
    assert len(accuracies(output)) == 4


def write_images(folder, labels):
    for label in labels:
        (folder / str(label)).mkdir(parents=True)
        for index in range(8):
            write_png(torch.randint(0, 256, (3, 40, 32), dtype=torch.uint8), str(folder / str(label) / f'{index}.png'))


@pytest.mark.parametrize(('tested', 'only'), [((0, 2), 'only in train: 1'), ((0, 1, 2, 3), 'only in test: 3')])
def test_classes_of_training_and_test_should_be_the_same(finetune, tmp_path, tested, only):
    write_images(tmp_path / 'images' / 'train', range(3))
    write_images(tmp_path / 'images' / 'test', tested)
    with pytest.raises(SystemExit, match=f'train and test in images should hold the same classes, but {only}'):
        finetune(*QUICK, '--data-dir', 'images')


def test_a_checkpoint_of_other_classes_is_refused(finetune, tmp_path):
    torch.save(timm.create_model('test_resnet', num_classes=3).state_dict(), tmp_path / 'plain.pth')
    with pytest.raises(SystemExit, match=r'--checkpoint should fit test_resnet with 10 classes, but .*size mismatch'):
        finetune(*QUICK, '--checkpoint', 'plain.pth')


@pytest.mark.slow
def test_mixed_precision_from_a_checkpoint_on_image_folders(finetune, tmp_path):
    for part in ('train', 'test'):
        write_images(tmp_path / 'images' / part, range(3))
    torch.save(timm.create_model('test_resnet', num_classes=3).state_dict(), tmp_path / 'plain.pth')
    output = finetune(
        *QUICK, '--amp', '--checkpoint', tmp_path / 'plain.pth', '--data-dir', 'images', '--reconstruction-weight', '0'
    )
    assert output.count('epoch') == 1
    assert len(accuracies(output)) == 4


@pytest.mark.slow
def test_two_processes(tmp_path):
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone', str(FINETUNE)]
    result = subprocess.run(
        [*command, *QUICK, '--amp', '--out', str(tmp_path)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert result.returncode == 0, result.stderr
    before, converted, *_ = accuracies(result.stdout)
    assert converted == before
    assert result.stdout.count('3. Fine-tuning') == 1


@pytest.mark.slow
def test_without_conversion_it_trains_the_plain_network(finetune, tmp_path):
    assert len(accuracies(finetune(*QUICK, '--no-convert'))) == 2
    assert type(timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True)).__name__ == 'ResNet'


@pytest.mark.slow
def test_training_learns_the_digits(finetune):
    before, converted, tuned, _ = accuracies(finetune('--model', 'test_resnet', '--epochs', '3'))
    assert converted == pytest.approx(before, abs=0.3)
    assert before > 50
    assert tuned > before
