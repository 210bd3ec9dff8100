"""The slow and obvious form of the method, to compare fast paths with: one sample at a time, one filter at a time."""

import torch
from torch import Tensor, nn


def generated_filters(weights: Tensor, repository: Tensor) -> Tensor:
    """Sum the filters of one sample by eq. 2, one by one.

    Args:
        weights: Coefficients ``(N, M)``.
        repository: Base filters ``(M, ...)``.
    """
    filters = []
    for row in weights:
        generated = torch.zeros_like(repository[0])
        for weight, base_filter in zip(row, repository, strict=True):
            generated = generated + weight * base_filter
        filters.append(generated)
    return torch.stack(filters)


def generated_conv(x: Tensor, coefficients: Tensor, layer: nn.Conv2d) -> Tensor:
    """Convolve each sample of ``x`` with filters summed by eq. 2 from the repository ``layer.weight``.

    Args:
        x: ``(B, C, H, W)``.
        coefficients: ``(B, N, M)``.
        layer: Its geometry, repository and bias are used, its forward is not.
    """
    outputs = []
    for sample, weights in zip(x, coefficients, strict=True):
        conv = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            bias=False,
            padding_mode=layer.padding_mode,
        ).double()
        filters = generated_filters(weights, layer.weight)
        out = torch.func.functional_call(conv, {'weight': filters}, (sample[None],))
        outputs.append(out if layer.bias is None else out + layer.bias.view(-1, 1, 1))
    return torch.cat(outputs)


def reconstruction_bce(images: Tensor, logits: Tensor) -> Tensor:
    """Write eq. 1 out."""
    reconstructed = torch.sigmoid(logits)
    terms = images * torch.log(reconstructed) + (1 - images) * torch.log(1 - reconstructed)
    return -terms.sum() / images.numel()
