import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fg_plugin.models.heatmap_codec import (
    GaussianHeatmapCodec,
    SoftmaxHeatmapCodec,
    bilinear_neighbours,
    local_window,
)

HEIGHT, WIDTH = 12, 16


def reference_target(x: float, y: float) -> torch.Tensor:
    """Bilinear spread of one point, pixel by pixel: the hat function of the distance along each axis."""
    target = torch.zeros(HEIGHT, WIDTH, dtype=torch.float64)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            target[row, column] = max(0, 1 - abs(column - x)) * max(0, 1 - abs(row - y))
    return target


def reference_loss(heatmaps: torch.Tensor, landmarks: torch.Tensor) -> float:
    """Negative log likelihood, one landmark at a time; landmarks outside the image do not count."""
    losses = []
    for maps, points in zip(heatmaps, landmarks.tolist(), strict=True):
        for logits, (x, y) in zip(maps, points, strict=True):
            if -0.5 <= x <= WIDTH - 0.5 and -0.5 <= y <= HEIGHT - 0.5:
                x, y = min(max(x, 0), WIDTH - 1), min(max(y, 0), HEIGHT - 1)
                log_likelihood = logits.double().flatten().log_softmax(0).view(HEIGHT, WIDTH)
                losses.append(-(reference_target(x, y) * log_likelihood).sum().item())
    return sum(losses) / len(losses)


def reference_decode(heatmap: torch.Tensor, radius: int) -> tuple[float, float]:
    """Expectation in a window around the maximum, pixel by pixel."""
    row, column = divmod(int(heatmap.argmax()), WIDTH)
    total = x = y = 0.0
    for v in range(max(0, row - radius), min(HEIGHT, row + radius + 1)):
        for u in range(max(0, column - radius), min(WIDTH, column + radius + 1)):
            weight = math.exp(float(heatmap[v, u] - heatmap[row, column]))
            total, x, y = total + weight, x + weight * u, y + weight * v
    return x / total, y / total


def random_landmarks(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 2, dtype=torch.float64) * torch.tensor([WIDTH - 1, HEIGHT - 1])


def test_softmax_loss_equals_reference():
    heatmaps, landmarks = torch.randn(3, 5, HEIGHT, WIDTH), random_landmarks(3, 5)
    landmarks[0, 0] = torch.tensor([-3.0, 4.0])  # outside
    landmarks[0, 1] = torch.tensor([-0.3, HEIGHT - 0.7])  # on a border pixel, beyond its centre
    landmarks[0, 2] = torch.tensor([WIDTH - 1.0, 0.0])  # a corner's centre
    loss = SoftmaxHeatmapCodec().loss(heatmaps, landmarks)
    assert loss.item() == pytest.approx(reference_loss(heatmaps, landmarks), rel=1e-5)


def test_softmax_decode_equals_reference():
    heatmaps = 3 * torch.randn(3, 5, HEIGHT, WIDTH)
    decoded = SoftmaxHeatmapCodec(radius=2).decode(heatmaps)
    for maps, points in zip(heatmaps, decoded.tolist(), strict=True):
        for heatmap, point in zip(maps, points, strict=True):
            assert point == pytest.approx(reference_decode(heatmap, 2), abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(x=st.floats(0, WIDTH - 1), y=st.floats(0, HEIGHT - 1))
def test_bilinear_neighbours_are_the_hat_function(x, y):
    positions, weights = bilinear_neighbours(torch.tensor([[[x, y]]], dtype=torch.float64), HEIGHT, WIDTH)
    target = torch.zeros(HEIGHT * WIDTH, dtype=torch.float64).index_add(0, positions.flatten(), weights.flatten())
    torch.testing.assert_close(target.view(HEIGHT, WIDTH), reference_target(x, y), rtol=0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(x=st.floats(0, WIDTH - 1), y=st.floats(0, HEIGHT - 1))
def test_softmax_round_trip_is_sub_pixel_up_to_the_border(x, y):
    heatmap = (reference_target(x, y) + 1e-9).log()
    decoded = SoftmaxHeatmapCodec().decode(heatmap.view(1, 1, HEIGHT, WIDTH))
    assert decoded.flatten().tolist() == pytest.approx([x, y], abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(x=st.floats(0, 31), y=st.floats(0, 31))
def test_gaussian_round_trip_is_sub_pixel_away_from_the_border(x, y):
    codec = GaussianHeatmapCodec(sigma=1.5)
    decoded = codec.decode(codec.encode(torch.tensor([[[x, y]]]), 32, 32)).flatten().tolist()
    margin = codec.radius
    inside = margin <= min(x, y) and max(x, y) <= 31 - margin
    assert decoded == pytest.approx([x, y], abs=0.02 if inside else codec.sigma)


def test_training_the_logits_recovers_sub_pixel_landmarks():
    torch.manual_seed(0)
    landmarks = random_landmarks(2, 5).float()
    heatmaps = torch.zeros(2, 5, HEIGHT, WIDTH, requires_grad=True)
    codec = SoftmaxHeatmapCodec()
    optimizer = torch.optim.Adam([heatmaps], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        codec.loss(heatmaps, landmarks).backward()
        optimizer.step()
    torch.testing.assert_close(codec.decode(heatmaps.detach()), landmarks, rtol=0, atol=0.02)


def test_gaussian_loss_is_zero_on_its_own_encoding_and_equals_mse():
    codec, landmarks = GaussianHeatmapCodec(sigma=2, scale=10), random_landmarks(2, 5).float()
    target = codec.encode(landmarks, HEIGHT, WIDTH)
    assert codec.loss(target, landmarks).item() == 0
    x, y = landmarks[1, 3].tolist()
    assert target[1, 3, 4, 7].item() == pytest.approx(math.exp(-((7 - x) ** 2 + (4 - y) ** 2) / 8), rel=1e-4)
    heatmaps = torch.randn_like(target)
    assert codec.loss(heatmaps, landmarks).item() == pytest.approx(10 * (heatmaps - target).square().mean().item())


@pytest.mark.parametrize('codec', [SoftmaxHeatmapCodec(), GaussianHeatmapCodec()])
@pytest.mark.parametrize(
    'outside', [[-5.0, 3.0], [3.0, math.nan], [math.inf, 3.0], [WIDTH - 0.4, 3.0], [3.0, HEIGHT - 0.4]]
)
def test_landmarks_outside_give_zero_loss_and_gradient(codec, outside):
    heatmaps = torch.randn(1, 2, HEIGHT, WIDTH, requires_grad=True)
    loss = codec.loss(heatmaps, torch.tensor([[outside, [3.0, 99.0]]]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(heatmaps.grad, torch.zeros_like(heatmaps))


def test_window_at_a_corner_holds_only_image_pixels():
    heatmap = torch.zeros(1, 1, HEIGHT, WIDTH)
    heatmap[0, 0, HEIGHT - 1, 0] = 5
    values, _, _ = local_window(heatmap, 2)
    assert torch.isfinite(values).sum() == 9


def test_half_precision_heatmaps():
    heatmaps, landmarks = torch.randn(2, 5, HEIGHT, WIDTH), random_landmarks(2, 5).float()
    codec = SoftmaxHeatmapCodec()
    half = heatmaps.bfloat16()
    assert codec.loss(half, landmarks).item() == pytest.approx(codec.loss(half.float(), landmarks).item())
    assert codec.decode(half).dtype == torch.float32


def test_bad_arguments():
    with pytest.raises(ValueError, match='radius should be at least 1, for sub-pixel decoding, but got 0'):
        SoftmaxHeatmapCodec(radius=0)
    with pytest.raises(ValueError, match='sigma should be positive, but got 0'):
        GaussianHeatmapCodec(sigma=0)
