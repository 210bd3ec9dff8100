import re
import struct

import numpy as np
import pytest
from PIL import Image, features

from fg_plugin.image_decoding import UndecodableImageError, decode_image

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize('name', ['image.png', 'image.tiff', 'image.pgm'])
def test_pixels_of_16_bits_are_scaled(tmp_path, name):
    path = save(tmp_path / name, GREY.astype(np.uint16) * 257)
    for mode in ('L', 'RGB'):
        image = decode_image(path, mode)
        assert image.mode == mode
        assert np.array_equal(np.asarray(image.convert('L')), GREY)


def test_pixels_of_16_bits_in_the_other_byte_order(tmp_path):
    path = tmp_path / 'image.tiff'
    image = Image.frombytes('I;16B', (16, 16), (GREY.astype('>u2') * 257).astype('>u2').tobytes())
    image.save(path)
    with Image.open(path) as file:
        assert file.mode == 'I;16B'
    assert np.array_equal(np.asarray(decode_image(path, 'L')), GREY)


def test_images_of_16_bits_are_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / 'image.png', GREY[:8].astype(np.uint16) * 257, exif=exif)
    assert np.array_equal(np.asarray(decode_image(path, 'L', transpose=True)), np.rot90(GREY[:8], -1))
    assert decode_image(path, 'L').size == (16, 8)


@pytest.mark.parametrize(('dtype', 'what'), [(np.int32, '32-bit integers'), (np.float32, 'floating point numbers')])
def test_pixels_of_no_known_range_are_refused(tmp_path, dtype, what):
    path = save(tmp_path / 'image.tiff', GREY.astype(dtype))
    with pytest.raises(UndecodableImageError, match=rf'the pixels are {what}, .*; save the image with 8 or 16 bits'):
        decode_image(path, 'L')


@pytest.mark.parametrize(
    ('bits', 'white_is_zero', 'what'), [(12, False, 'have 12 bits, which'), (16, True, 'have 16 bits, and white is 0')]
)
def test_tiffs_that_do_not_span_the_range_of_16_bits_are_refused(tmp_path, bits, white_is_zero, what):
    path = tmp_path / 'image.tiff'
    path.write_bytes(grey_tiff(bits, white_is_zero))
    with Image.open(path) as file:
        assert file.mode == 'I;16'
    with pytest.raises(UndecodableImageError, match=f'the pixels of the TIFF {what}'):
        decode_image(path, 'L')


def grey_tiff(bits, white_is_zero):
    """A file of 8x8 pixels, none of whose bits is set."""
    pixels = bytes(8 * bits)
    # Number, type (3 for 16 bits, 4 for 32) and value: width, height, bits, no compression, range, place, channels,
    # rows, bytes.
    tags = [(256, 4, 8), (257, 4, 8), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, 8), (279, 4, len(pixels))]
    directory = b''.join(struct.pack('<HHII', number, kind, 1, value) for number, kind, value in tags)
    header = struct.pack('<2sHI', b'II', 42, 8 + len(pixels))
    return header + pixels + struct.pack('<H', len(tags)) + directory + struct.pack('<I', 0)


def test_whatever_a_decoder_raises_is_one_error(tmp_path, monkeypatch):
    path = save(tmp_path / 'image.png', GREY)
    for error in (RuntimeError('av1'), NotImplementedError('dds'), ValueError('chunk'), OSError('cut')):
        with monkeypatch.context() as patched:
            patched.setattr(Image.Image, 'convert', lambda *_, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(UndecodableImageError, match=str(error)) as caught:
                decode_image(path, 'RGB')
        assert caught.value.__cause__ is error


def test_truncated_header(tmp_path):
    path = save(tmp_path / 'image.png', GREY)
    content = bytearray(path.read_bytes())
    content[11] = 5  # the length of IHDR
    path.write_bytes(content)
    with pytest.raises(UndecodableImageError):
        decode_image(path, 'RGB')


@pytest.mark.skipif(not features.check('avif'), reason='PIL without AVIF')
def test_damaged_avif(tmp_path):
    path = save(tmp_path / 'image.avif', np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UndecodableImageError, match=r'.'):
        decode_image(path, 'RGB')


@pytest.mark.parametrize('limit', [200, 100])  # a warning of PIL, and an error
def test_too_many_pixels(tmp_path, monkeypatch, limit):
    path = save(tmp_path / 'image.png', GREY)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', limit)
    with pytest.raises(UndecodableImageError, match=re.escape('Image size (256 pixels) exceeds limit of')):
        decode_image(path, 'RGB')
