import re

import numpy as np
import pytest

from fg_plugin.datasets.mtfl_annotations import read_mtfl_annotations

LINE = r' lfw_5590\A_0001.jpg 1.5 2 3 4 5 10 20 30 40 50.25 1 2 2 3'


def test_fields(tmp_path):
    path = tmp_path / 'training.txt'
    path.write_bytes(f'{LINE}\r\n\r\n{LINE}\r\n '.encode())
    first, second = read_mtfl_annotations(path)
    assert first.name == 'lfw_5590/A_0001.jpg'
    assert np.array_equal(first.landmarks, [[1.5, 10], [2, 20], [3, 30], [4, 40], [5, 50.25]])
    assert first.attributes == {'gender': 1, 'smile': 2, 'glasses': 2, 'pose': 3}
    assert (first.line, second.line) == (1, 3)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (LINE[:-2], 'line 2: should have 15 fields (image path, x1..x5, y1..y5, 4 attributes), but has 14: '),
        (
            LINE.replace('20', 'x'),
            "line 2: coordinates and attributes should be numbers: could not convert string to float: 'x'",
        ),
        (LINE.replace('20', 'nan'), 'line 2: coordinates should be finite: '),
    ],
)
def test_malformed_line(tmp_path, line, message):
    path = tmp_path / 'training.txt'
    path.write_text(f'{LINE}\n{line}\n')
    with pytest.raises(ValueError, match=re.escape(f'{path}, {message}')):
        read_mtfl_annotations(path)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / 'training.txt'
    path.write_text(LINE.strip(), encoding='utf-8-sig')
    assert read_mtfl_annotations(path)[0].name == 'lfw_5590/A_0001.jpg'


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / 'training.txt'
    path.write_bytes('é'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'training\.txt should be a text in UTF-8, but is not'):
        read_mtfl_annotations(path)


def test_empty_file(tmp_path):
    path = tmp_path / 'training.txt'
    path.write_text('\n')
    with pytest.raises(ValueError, match='should hold one line a face, but it is empty'):
        read_mtfl_annotations(path)
