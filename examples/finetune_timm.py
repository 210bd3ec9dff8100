"""Give a timm network generated filters and fine-tune it, in a plain PyTorch loop.

    python examples/finetune_timm.py
    python examples/finetune_timm.py --data-dir data/cifar10 --model resnet18 --amp
    torchrun --nproc-per-node 2 examples/finetune_timm.py

Without --data-dir, the images are scikit-learn's handwritten digits (pip install scikit-learn): nothing is downloaded,
and the run takes a few minutes on one CPU core. The steps are those of ``main``, at the end of this file.
"""

import argparse
import os
import sys
import time
from functools import partial
from itertools import islice
from math import ceil

import timm
import torch
import torch.nn.functional as F
from timm.models import save_for_hf
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import fg_plugin

# torchrun sets these.
RANK, LOCAL_RANK = (int(os.environ.get(name, 0)) for name in ('RANK', 'LOCAL_RANK'))
PROCESSES = int(os.environ.get('WORLD_SIZE', 1))
DEVICE = torch.device('cuda', LOCAL_RANK) if torch.cuda.is_available() else torch.device('cpu')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='resnet18', help='any timm architecture with a convolution')
    parser.add_argument('--checkpoint', help='weights of that architecture, for these classes, instead of step 1')
    parser.add_argument('--data-dir', help='folder of {train,test}/<class>/<image>, instead of the digits')
    parser.add_argument('--image-size', type=int, default=32)
    parser.add_argument('--batch-size', type=int, default=64, help='of each process')
    parser.add_argument('--plain-epochs', type=int, default=3, help='epochs of step 1; 0 skips it')
    parser.add_argument('--epochs', type=int, default=5, help='epochs of the fine-tuning')
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--head', default='lowrank', choices=['lowrank', 'residual', 'full'])
    parser.add_argument('--rank', type=int, default=8, help='of the heads')
    parser.add_argument('--head-lr', type=float, default=10.0, help='of the heads, as a multiple of --lr')
    parser.add_argument('--generator-lr', type=float, default=0.1, help='of autoencoder and neck, likewise')
    parser.add_argument('--reconstruction-weight', type=float, default=1.0, help='0 trains faster, without a decoder')
    parser.add_argument('--no-convert', action='store_true', help='fine-tune the plain network, to compare')
    parser.add_argument('--amp', action='store_true', help='autocast: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--max-steps', type=int, help='stop each epoch after this many batches (for a quick try)')
    parser.add_argument('--out', default='work_dirs/finetune_timm', help='folder of the fine-tuned network')
    args = parser.parse_args()
    if not timm.is_model(args.model) or (not args.no_convert and not timm.is_model(f'fg_{args.model}')):
        parser.error(f'--model should be a timm architecture with a convolution, but got {args.model}')
    if args.checkpoint and not os.path.isfile(args.checkpoint):
        parser.error(f'--checkpoint should be a file, but {args.checkpoint} is missing')
    for name, minimum in (('plain_epochs', 0), ('epochs', 1), ('max_steps', 1), ('batch_size', 1), ('image_size', 1)):
        value = getattr(args, name)
        if value is not None and value < minimum:
            parser.error(f'--{name.replace("_", "-")} should be at least {minimum}, but got {value}')
    return args


def load_digits(size: int, mean: tuple, std: tuple) -> tuple[Dataset, Dataset, int]:
    """Return scikit-learn's digits for training and test, enlarged to ``size``, and the number of classes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16).unsqueeze(1).expand(-1, 3, -1, -1)
    images = F.interpolate(images, (size, size), mode='bilinear')
    images = (images - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    labels = torch.from_numpy(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=360, stratify=labels, random_state=0)
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test]), 10


def load_folders(root: str, size: int, mean: tuple, std: tuple) -> tuple[Dataset, Dataset, int]:
    """Return the images of ``root``/train and ``root``/test, and the number of classes."""
    from torchvision.datasets import ImageFolder

    options = {'input_size': size, 'mean': mean, 'std': std}
    train = ImageFolder(f'{root}/train', timm.data.create_transform(**options, is_training=True, scale=(0.5, 1.0)))
    test = ImageFolder(f'{root}/test', timm.data.create_transform(**options, crop_pct=1.0))
    # ImageFolder numbers the classes that it finds: without one of them, the others have other numbers.
    if train.class_to_idx != test.class_to_idx:
        only = {
            part: sorted({*here.classes} - {*there.classes})
            for part, here, there in (('train', train, test), ('test', test, train))
        }
        found = '; '.join(f'only in {part}: {", ".join(names)}' for part, names in only.items() if names)
        raise ValueError(f'train and test in {root} should hold the same classes, but {found}')
    return train, test, len(train.classes)


def train(model: nn.Module, data: Dataset, epochs: int, args: argparse.Namespace) -> None:
    """Train ``model`` as any timm network, but for the learning rates and the reconstruction loss."""
    network, sampler = model, None
    generated = hasattr(model, 'fg_generator')
    if PROCESSES > 1:
        # Convert first, then wrap: every parameter gets a gradient in each step, as DistributedDataParallel expects.
        network = DistributedDataParallel(model, device_ids=[LOCAL_RANK] if DEVICE.type == 'cuda' else None)
        sampler = DistributedSampler(data)
    loader = DataLoader(data, args.batch_size, shuffle=sampler is None, sampler=sampler, drop_last=True)
    steps = min(len(loader), args.max_steps or len(loader))
    if not steps:
        raise ValueError(f'--batch-size should be at most {len(data)}, the number of images, but got {args.batch_size}')

    # An optimizer holds the parameters it was given: create it after the conversion, which adds some.
    decay = 0.05
    if generated:
        rates = {'head_lr': args.head_lr, 'generator_lr': args.generator_lr}
        optimizer = torch.optim.AdamW(fg_plugin.param_groups(model, args.lr, **rates, weight_decay=decay))
    else:
        optimizer = create_optimizer_v2(model, 'adamw', lr=args.lr, weight_decay=decay)
    schedule = CosineLRScheduler(optimizer, t_initial=epochs * steps, warmup_t=steps // 2, t_in_epochs=False)
    half = torch.float16 if DEVICE.type == 'cuda' else torch.bfloat16
    # Only float16 needs its gradients scaled.
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=args.amp and half == torch.float16)
    for epoch in range(epochs):
        model.train()
        if sampler is not None:
            sampler.set_epoch(epoch)
        start, total = time.perf_counter(), 0.0
        for step, (images, labels) in enumerate(islice(loader, steps)):
            schedule.step_update(epoch * steps + step)
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            with torch.autocast(DEVICE.type, half, enabled=args.amp):
                loss = F.cross_entropy(network(images), labels)
            if generated:
                # It was computed by the forward, in float32 also under autocast; scaler and DDP see it as part of loss.
                loss = loss + fg_plugin.reconstruction_loss(network)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            total += loss.item()
        log(f'  epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.perf_counter() - start:.1f} s')


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset, args: argparse.Namespace, swap: bool = False) -> float:
    """Return the accuracy in percent; with ``swap``, each image is seen with the filters of another one."""
    if RANK:
        return float('nan')
    model.eval()
    # Shuffled, so that the other image is of any class.
    loader = DataLoader(data, args.batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))
    correct = seen = 0
    for images, labels in islice(loader, args.max_steps):
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        if swap:
            with model.conditioned_on(images.roll(1, 0)):
                logits = model(images)
        else:
            logits = model(images)
        correct += (logits.argmax(1) == labels).sum().item()
        seen += len(labels)
    return 100 * correct / seen


def log(message: str) -> None:
    if RANK == 0:
        print(message, flush=True)


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    if PROCESSES > 1:
        distributed.init_process_group('nccl' if DEVICE.type == 'cuda' else 'gloo')
    config = timm.get_pretrained_cfg(args.model)
    load = partial(load_folders, args.data_dir) if args.data_dir else load_digits
    train_data, test_data, classes = load(args.image_size, config.mean, config.std)

    log(f'1. {args.model}, plain')
    try:
        model = timm.create_model(args.model, num_classes=classes, checkpoint_path=args.checkpoint).to(DEVICE)
    except RuntimeError as error:
        if 'state_dict' not in str(error):
            raise
        misfit = str(error).splitlines()[-1].strip()
        raise ValueError(
            f'--checkpoint should fit {args.model} with {classes} classes, but {args.checkpoint} does not: {misfit}'
        ) from error
    conversion = {
        'head': args.head,
        'rank': args.rank,
        'reconstruction_weight': args.reconstruction_weight,
        'input_size': (3, args.image_size, args.image_size),
        # What the encoder sees. Its decoder returns to multiples of its stride.
        'image_size': min(64, 16 * ceil(args.image_size / 16)),
    }
    if not args.no_convert:
        # An option that does not fit should be told of before the training.
        fg_plugin.report(model, **conversion)
    if not args.checkpoint and args.plain_epochs:
        train(model, train_data, args.plain_epochs, args)
    log(f'  accuracy {accuracy(model, test_data, args):.2f} %')

    if not args.no_convert:
        log('2. Conversion: the same outputs, until training moves the filters')
        fg_plugin.convert_(model, **conversion)
        log(f'  {str(fg_plugin.report(model)).splitlines()[0]}')
        log(f'  accuracy {accuracy(model, test_data, args):.2f} %')

    log('3. Fine-tuning')
    train(model, train_data, args.epochs, args)

    log('4. Evaluation')
    log(f'  accuracy {accuracy(model, test_data, args):.2f} %')
    if not args.no_convert:
        # The lower this is, the more the filters depend on their image.
        log(f'  accuracy with the filters of other images {accuracy(model, test_data, args, swap=True):.2f} %')

    if RANK == 0:
        save_for_hf(model, args.out, safe_serialization=True)
        log(f"5. Saved. To load it: import fg_plugin; timm.create_model('local-dir:{args.out}', pretrained=True)")
    if PROCESSES > 1:
        distributed.destroy_process_group()


if __name__ == '__main__':
    try:
        main(parse_args())
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
