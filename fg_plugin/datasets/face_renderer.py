"""A deterministic drawing of a face with five landmarks, for trying the landmark nets without any download.

A face is flat patches on an ellipsoid that is turned (yaw, pitch), projected, and rolled in the image. Head coordinates
start in the centre of the ellipsoid: x to the right and y downwards as seen in the image, z towards the viewer; the
ellipsoid's half height is 1.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SUPERSAMPLING = 4
_DEPTH = 0.9
_CIRCLE = np.stack([f(np.linspace(0, 2 * math.pi, 28, endpoint=False)) for f in (np.cos, np.sin)], axis=1)
_ARC = np.linspace(-1, 1, 11)
_SKIN = ((255, 224, 196), (241, 194, 155), (224, 172, 125), (198, 134, 90), (141, 85, 50), (84, 52, 36))
_HAIR = ((24, 18, 16), (60, 38, 24), (110, 70, 36), (170, 125, 66), (222, 190, 120), (150, 60, 30), (170, 168, 165))
_IRIS = ((60, 38, 20), (96, 70, 36), (70, 110, 150), (90, 130, 90), (110, 120, 125))


@dataclass(frozen=True)
class RenderedFace:
    """Image ``uint8`` of shape ``(3, S, S)``; landmarks ``float32`` of shape ``(5, 2)``, x and y, in MTFL's order."""

    image: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class _Proportions:
    """Shape and expression of a face, in head coordinates."""

    half_width: float
    eye_x: float
    eye_y: float
    eye_open: float
    nose_y: float
    nose_length: float
    mouth_x: float
    mouth_y: float
    smile: float
    mouth_open: float


@dataclass(frozen=True)
class _Head:
    """Where a head is: its half axes and its projection into the image, ``(roll @ turn @ p) * scale + origin``."""

    axes: np.ndarray
    turn: np.ndarray
    roll: np.ndarray
    scale: float
    origin: np.ndarray

    def surface(self, points: np.ndarray) -> np.ndarray:
        """Lift points ``(n, 2)`` of the frontal view onto the ellipsoid."""
        depth = 1 - ((points / self.axes[:2]) ** 2).sum(axis=1)
        return np.column_stack([points, self.axes[2] * np.sqrt(depth.clip(min=0))])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points ``(n, 3)`` to pixels."""
        return points @ self.turn.T @ self.roll.T * self.scale + self.origin

    def outline(self, grow: float = 1.0, taper: float = 0.2) -> np.ndarray:
        """Find the silhouette in pixels, narrower towards the chin."""
        shape = np.linalg.cholesky(self.turn @ np.diag(self.axes**2) @ self.turn.T)
        points = _CIRCLE @ shape.T * grow
        points[:, 0] *= 1 - taper * points[:, 1].clip(min=0) ** 2
        return points @ self.roll.T * self.scale + self.origin


class _Pen:
    """Draws in head coordinates onto an image ``_SUPERSAMPLING`` times as fine as the final one."""

    def __init__(self, canvas: Image.Image, head: _Head) -> None:
        self.head = head
        self._draw = ImageDraw.Draw(canvas)

    def pixels(self, points: np.ndarray, colour: np.ndarray) -> None:
        """Fill a polygon given in pixels of the final image."""
        fine = (points + 0.5) * _SUPERSAMPLING - 0.5
        self._draw.polygon([*map(tuple, fine.tolist())], fill=_rgb(colour))

    def solid(self, points: np.ndarray, colour: np.ndarray) -> None:
        """Fill a polygon of points in space."""
        self.pixels(self.head.project(points), colour)

    def patch(self, points: np.ndarray, colour: np.ndarray) -> None:
        """Fill a polygon on the surface of the head."""
        self.solid(self.head.surface(points), colour)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], colour: np.ndarray) -> None:
        self.patch(_CIRCLE * radii + centre, colour)

    def stroke(self, points: np.ndarray, width: float, colour: np.ndarray) -> None:
        """Draw a line on the surface; ``width`` in head units."""
        fine = (self.head.project(self.head.surface(points)) + 0.5) * _SUPERSAMPLING - 0.5
        pixels = max(1, round(width * self.head.scale * _SUPERSAMPLING))
        self._draw.line([*map(tuple, fine.tolist())], fill=_rgb(colour), width=pixels, joint='curve')


def render_face(random: np.random.Generator, image_size: int = 64, max_rotation: float = 45.0) -> RenderedFace:
    """Draw a random face, its features about as large and as central as in D-Align, then rolled as in D-Rot.

    Args:
        random: Source of every choice.
        image_size: Height and width in pixels.
        max_rotation: The face is rolled by up to this many degrees either way.
    """
    face = _proportions(random)
    head = _pose(random, face, image_size, max_rotation)
    skin = _shade(random, _SKIN)
    hair = _shade(random, _HAIR)
    canvas = _background(random, image_size * _SUPERSAMPLING)
    pen = _Pen(canvas, head)

    long_hair = random.random() < 0.45
    if long_hair:
        pen.pixels(head.outline(random.uniform(1.15, 1.4), taper=-0.05), hair * 0.75)
    _draw_body(pen, random, skin)
    for side in (-1, 1):
        pen.solid(np.column_stack([_CIRCLE * (0.06, 0.17) + (side * face.half_width, 0.0), np.zeros(28)]), skin * 0.85)
    pen.pixels(head.outline(), skin)
    _draw_cheeks_and_beard(pen, random, face, skin, hair)
    _draw_mouth(pen, random, face, skin)
    _draw_eyes(pen, random, face, skin, hair)
    nose_tip = _draw_nose(pen, random, face, skin)
    if random.random() < 0.9:
        _draw_hair(pen, random, face, hair)
    if random.random() < 0.3:
        _draw_glasses(pen, random, face)

    surface_points = [
        (-face.eye_x, face.eye_y),
        (face.eye_x, face.eye_y),
        (-face.mouth_x, face.mouth_y - face.smile),
        (face.mouth_x, face.mouth_y - face.smile),
    ]
    points = np.insert(head.surface(np.array(surface_points)), 2, nose_tip, axis=0)
    image = _photograph(canvas.reduce(_SUPERSAMPLING), random, head)
    return RenderedFace(image, head.project(points).astype(np.float32))


def _proportions(random: np.random.Generator) -> _Proportions:
    half_width = random.uniform(0.68, 0.8)
    return _Proportions(
        half_width=half_width,
        eye_x=half_width * random.uniform(0.4, 0.48),
        eye_y=random.uniform(-0.22, -0.12),
        eye_open=random.uniform(0.35, 1.0),
        nose_y=random.uniform(0.2, 0.28),
        nose_length=random.uniform(0.14, 0.26),
        mouth_x=random.uniform(0.2, 0.33),
        mouth_y=random.uniform(0.5, 0.58),
        smile=random.uniform(-0.04, 0.09),
        mouth_open=max(0.0, random.uniform(-0.12, 0.14)),
    )


def _pose(random: np.random.Generator, face: _Proportions, image_size: int, max_rotation: float) -> _Head:
    yaw, pitch = math.radians(random.uniform(-38, 38)), math.radians(random.uniform(-14, 14))
    roll = math.radians(random.uniform(-max_rotation, max_rotation))
    yawed = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    pitched = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)]])
    turn = pitched @ yawed
    rolled = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    pixels = image_size / 64
    eye_to_mouth = random.uniform(22, 26) * pixels
    scale = eye_to_mouth / (face.mouth_y - face.eye_y)
    axes = np.array([face.half_width, 1.0, _DEPTH])
    centred = _Head(axes, turn, rolled, scale, np.zeros(2))
    middle = centred.project(centred.surface(np.array([[0.0, (face.eye_y + face.mouth_y) / 2]])))[0]
    origin = (image_size - 1) / 2 + random.uniform(-2, 2, 2) * pixels - middle
    return _Head(axes, turn, rolled, scale, origin)


def _background(random: np.random.Generator, size: int) -> Image.Image:
    # Drawn coarsely and enlarged: out of focus, as behind most portraits.
    coarse = 32
    top, bottom = random.uniform(20, 235, (2, 3))
    ramp = np.linspace(0, 1, coarse)[:, None, None]
    image = Image.fromarray((top * (1 - ramp) + bottom * ramp).repeat(coarse, axis=1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(2, 8)):
        x, y = random.uniform(-8, coarse, 2)
        width, height = random.uniform(3, 20, 2)
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=_rgb(random.uniform(0, 255, 3)))
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _draw_body(pen: _Pen, random: np.random.Generator, skin: np.ndarray) -> None:
    clothes = random.uniform(10, 245, 3)
    neck = np.array([(-0.35, 0.5), (0.35, 0.5), (0.4, 1.3), (-0.4, 1.3)])
    shoulders = np.array([(-0.4, 1.15), (0.4, 1.15), (1.3, 1.5), (1.5, 3.0), (-1.5, 3.0), (-1.3, 1.5)])
    for shape, colour in ((neck, skin * 0.75), (shoulders, clothes)):
        pen.pixels(shape @ pen.head.roll.T * pen.head.scale + pen.head.origin, colour)


def _draw_cheeks_and_beard(
    pen: _Pen, random: np.random.Generator, face: _Proportions, skin: np.ndarray, hair: np.ndarray
) -> None:
    blush = skin * (1.03, 0.93, 0.92)
    for side in (-1, 1):
        pen.ellipse((side * face.eye_x * 1.15, (face.eye_y + face.mouth_y) / 2 + 0.05), (0.13, 0.1), blush)
    if random.random() < 0.25:
        stubble = skin + (hair - skin) * random.uniform(0.25, 0.9)
        reach = face.half_width * 0.78
        jaw = np.column_stack([_ARC * reach, 0.25 + 0.62 * np.sqrt(1 - (_ARC * 0.97) ** 2)])
        upper = np.column_stack([_ARC[::-1] * reach, 0.42 - 0.12 * (1 - np.abs(_ARC)) ** 2])
        pen.patch(np.concatenate([jaw, upper]), stubble)


def _draw_mouth(pen: _Pen, random: np.random.Generator, face: _Proportions, skin: np.ndarray) -> None:
    lips = skin * (0.92, 0.62, 0.62) * random.uniform(0.8, 1.05)
    x = _ARC * face.mouth_x
    line = face.mouth_y - face.smile * _ARC**2
    bulge = 1 - _ARC**2
    upper, lower = random.uniform(0.03, 0.06), random.uniform(0.04, 0.08)

    def band(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.concatenate([np.column_stack([x, above]), np.column_stack([x, below])[::-1]])

    opened = face.mouth_open * bulge
    pen.patch(band(line - upper * bulge, line + opened + lower * bulge), lips)
    pen.patch(band(line, line + opened), np.array([70.0, 20.0, 25.0]))
    if face.mouth_open > 0.03:
        pen.patch(band(line, line + opened * 0.5), np.array([240.0, 236.0, 225.0]))
    pen.stroke(np.column_stack([x, line]), 0.02, lips * 0.6)


def _draw_eyes(pen: _Pen, random: np.random.Generator, face: _Proportions, skin: np.ndarray, hair: np.ndarray) -> None:
    iris = _shade(random, _IRIS)
    gaze = random.uniform(-0.03, 0.03)
    raised = random.uniform(-0.02, 0.04)
    brow_width = random.uniform(0.025, 0.055)
    half_width, half_height = random.uniform(0.1, 0.13), 0.065 * face.eye_open
    for side in (-1, 1):
        x, y = side * face.eye_x, face.eye_y
        pen.ellipse((x, y), (half_width * 1.3, 0.11), skin * 0.88)
        pen.ellipse((x, y), (half_width, half_height), np.array([238.0, 236.0, 232.0]))
        pen.ellipse((x + gaze, y), (0.058, min(0.058, half_height)), iris)
        pen.ellipse((x + gaze, y), (0.027, min(0.027, half_height)), np.array([8.0, 8.0, 8.0]))
        lid = np.column_stack([x + _ARC * half_width * 1.05, y - half_height * (1 - _ARC**2)])
        pen.stroke(lid, 0.022, skin * 0.35)
        brow = np.column_stack([x + _ARC * 0.17, y - 0.16 - raised - 0.05 * (1 - (_ARC - 0.2 * side) ** 2)])
        pen.stroke(brow, brow_width, hair * 0.8)


def _draw_nose(pen: _Pen, random: np.random.Generator, face: _Proportions, skin: np.ndarray) -> np.ndarray:
    """Draw the nose; return its tip in head coordinates."""
    wing = random.uniform(0.1, 0.15)
    bridge, root, left, right, base = pen.head.surface(
        np.array(
            [
                (0.0, face.eye_y + 0.04),
                (0.0, face.nose_y),
                (-wing, face.nose_y + 0.05),
                (wing, face.nose_y + 0.05),
                (0.0, face.nose_y + 0.09),
            ]
        )
    )
    tip = root + np.array([0, 0, face.nose_length])
    # The side turned away is drawn first, so that the near side covers it.
    sides = [(left, 0.9), (right, 1.06)] if random.random() < 0.5 else [(left, 1.06), (right, 0.9)]
    if pen.head.turn[0, 2] > 0:
        sides = sides[::-1]
    for corner, light in sides:
        pen.solid(np.array([bridge, tip, corner]), skin * light)
    pen.solid(np.array([left, tip, right, base]), skin * 0.78)
    for corner in (left, right):
        nostril = 0.45 * corner + 0.25 * tip + 0.3 * base
        pen.solid(nostril + np.column_stack([_CIRCLE * (0.032, 0.02), np.zeros(28)]), skin * 0.35)
    pen.solid(tip + np.column_stack([_CIRCLE * 0.035, np.zeros(28)]), skin * 1.1)
    return tip


def _draw_hair(pen: _Pen, random: np.random.Generator, face: _Proportions, hair: np.ndarray) -> None:
    grow = random.uniform(1.02, 1.14)
    outline = pen.head.outline(grow)
    line = random.uniform(-0.72, -0.45)
    parting = random.uniform(-0.12, 0.12)
    reach = face.half_width * 0.99 * math.sqrt(1 - line**2)
    hairline = np.column_stack([_ARC * reach, line + parting * _ARC + random.uniform(-0.05, 0.3) * _ARC**4])
    front = pen.head.project(pen.head.surface(hairline))
    # Of the enlarged outline, the part above the hairline's ends, seen along the head's own upward direction.
    up = pen.head.roll @ (0, -1)
    above = outline[(outline - pen.head.origin) @ up > min((front[[0, -1]] - pen.head.origin) @ up)]
    along = (above - pen.head.origin) @ (pen.head.roll @ (1, 0))
    pen.pixels(np.concatenate([above[np.argsort(along)], front[::-1]]), hair)


def _draw_glasses(pen: _Pen, random: np.random.Generator, face: _Proportions) -> None:
    frame = random.uniform(0, 90, 3)
    radii = (random.uniform(0.17, 0.21), random.uniform(0.12, 0.17))
    dark = random.random() < 0.3
    for side in (-1, 1):
        centre = (side * face.eye_x, face.eye_y + 0.02)
        if dark:
            pen.ellipse(centre, radii, frame * 0.4)
        ring = _CIRCLE * radii + centre
        pen.stroke(np.concatenate([ring, ring[:1]]), 0.03, frame)
    inner = face.eye_x - radii[0]
    pen.stroke(np.array([(-inner, face.eye_y), (inner, face.eye_y)]), 0.03, frame)


def _photograph(image: Image.Image, random: np.random.Generator, head: _Head) -> np.ndarray:
    """Light the scene and take the picture: ``uint8`` of shape ``(3, S, S)``."""
    if random.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.8)))
    pixels = np.asarray(image, dtype=np.float64)
    size = image.width
    direction = random.uniform(0, 2 * math.pi)
    x = (np.arange(size) - head.origin[0]) / head.scale * math.cos(direction)
    y = (np.arange(size) - head.origin[1]) / head.scale * math.sin(direction)
    light = 1 + random.uniform(0, 0.4) * np.tanh(x[None, :] + y[:, None])[..., None]
    tint = random.uniform(0.9, 1.1, 3)
    contrast, brightness = random.uniform(0.65, 1.1), random.uniform(-25, 25)
    pixels = (pixels * light * tint - 128) * contrast + 128 + brightness
    if random.random() < 0.1:
        pixels = np.broadcast_to(pixels.mean(axis=2, keepdims=True), pixels.shape)
    pixels = pixels + random.normal(0, random.uniform(1, 8), pixels.shape)
    return pixels.round().clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def _shade(random: np.random.Generator, palette: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Mix two neighbouring colours of a palette."""
    position = random.uniform(0, len(palette) - 1)
    lower = min(int(position), len(palette) - 2)
    weight = position - lower
    return np.array(palette[lower]) * (1 - weight) + np.array(palette[lower + 1]) * weight


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(channel))) for channel in colour.tolist())
    return red, green, blue
