import numpy as np

from fg_plugin.datasets.contact_sheet import contact_sheet, stack_sheets


def test_landmark_is_drawn_on_its_pixel():
    images = np.zeros((3, 3, 16, 16), dtype=np.uint8)
    landmarks = np.full((3, 1, 2), [5.0, 9.0])
    sheet = contact_sheet(images, landmarks, columns=2, scale=4)
    assert sheet.size == (2 * (64 + 4) + 4, 2 * (64 + 4) + 4)
    centre = (4 + 5 * 4 + 2, 4 + 9 * 4 + 2)
    assert sheet.getpixel(centre) == (255, 59, 48)
    assert sheet.getpixel((4 + 60, 4 + 60)) == (0, 0, 0)
    assert sheet.getpixel((4 + 68 + 30, 4 + 68 + 30)) == (255, 255, 255)


def test_stacked_sheets_keep_their_size():
    sheet = contact_sheet(np.zeros((1, 3, 16, 16), dtype=np.uint8), np.zeros((1, 5, 2)), columns=1)
    stacked = stack_sheets([('(a)', sheet), ('(b)', sheet)])
    assert stacked.width == sheet.width
    assert stacked.height > 2 * sheet.height
