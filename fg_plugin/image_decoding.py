"""Image files as images of 8 bits, or the reason why they are none."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

# What PIL decodes as 32-bit integers although the file holds no more than 16 bits, and fills the range of 16 bits with.
_FORMATS_OF_16_BITS = ('PNG', 'PPM')

# What a TIFF says of its pixels: the number of their bits, and whether 0 is white.
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION, _WHITE_IS_ZERO = 258, 262, 0

_UNSCALED = {'I': '32-bit integers', 'F': 'floating point numbers'}


class UndecodableImageError(ValueError):
    """A file holds no image that can be decoded. What PIL raised is its cause."""


def decode_image(path: Path, mode: str, *, transpose: bool = False) -> Image.Image:
    """Decode an image of any format that PIL knows.

    Pixels of 16 bits are scaled to 8.

    Args:
        path: The file.
        mode: 'L' for grey, or 'RGB'.
        transpose: Turn the image as its EXIF data says.

    Raises:
        UndecodableImageError: If the file cannot be decoded, or its pixels have no known range.
    """
    try:
        # An image of more pixels than PIL takes for an attack is refused, rather than read with a warning.
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if file.mode.startswith('I;16') and isinstance(file, TiffImageFile):
                    _check_range(file)
                image = ImageOps.exif_transpose(file) if transpose else file
                return _to_8_bits(image, file.format).convert(mode)
    # PIL's decoders let almost any error of a damaged file through: SyntaxError for a chunk of a PNG, RuntimeError for
    # an AVIF, NotImplementedError for a DDS.
    except Exception as error:
        raise UndecodableImageError(str(error) or type(error).__name__) from error


def _check_range(file: TiffImageFile) -> None:
    """Refuse a TIFF whose pixels PIL gives as 16 bits although they do not span from black, 0, to white, 65535."""
    (bits,), interpretation = file.tag_v2[_BITS_PER_SAMPLE], file.tag_v2[_PHOTOMETRIC_INTERPRETATION]
    if bits != 16 or interpretation == _WHITE_IS_ZERO:
        white = ', and white is 0' if interpretation == _WHITE_IS_ZERO else ''
        raise ValueError(
            f'the pixels of the TIFF have {bits} bits{white}, which is not supported; save the image with 8 or 16 bits '
            'a channel, and black as 0'
        )


def _to_8_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """Scale pixels of 16 bits, which PIL's ``convert`` would cut off at 255."""
    if image.mode.startswith('I;16') or (image.mode == 'I' and file_format in _FORMATS_OF_16_BITS):
        # The upper byte, as PIL takes it of colours of 16 bits.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in _UNSCALED:
        raise ValueError(
            f'the pixels are {_UNSCALED[image.mode]}, of which it is not known what is white; save the image with 8 or '
            '16 bits a channel'
        )
    return image
