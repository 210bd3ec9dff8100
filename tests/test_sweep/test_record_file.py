import pytest

from fg_plugin.sweep.record import Record
from fg_plugin.sweep.record_file import RecordFile

ENVIRONMENT = dict(python='3.12', torch='2.14', timm='1.0', cpu='a processor')
FIRST = Record('resnet18', [], dict(convs=20, ratio=1.5), 2.5)
SECOND = Record('vgg11', ['does not hold'], {}, 1.0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'folder' / 'records.jsonl'
    file = RecordFile(path, ENVIRONMENT)
    file.add(FIRST)
    file.add(SECOND)
    return path


def test_records_are_read_again(path):
    file = RecordFile(path, ENVIRONMENT)
    assert file.records == {'resnet18': FIRST, 'vgg11': SECOND}
    assert [record.passed for record in file.records.values()] == [True, False]


def test_the_latest_record_of_an_architecture_counts(path):
    RecordFile(path, ENVIRONMENT).add(SECOND._replace(failures=[]))
    assert RecordFile(path, ENVIRONMENT).records['vgg11'].passed


@pytest.mark.parametrize('kept', [1, 20])
def test_a_line_that_was_cut_short_is_forgotten(path, kept):
    content = path.read_text()
    path.write_text(content[: content.rindex('{"architecture": "vgg11"') + kept])
    RecordFile(path, ENVIRONMENT).add(SECOND)
    assert path.read_text() == content


def test_a_first_line_that_was_cut_short(path):
    path.write_text('{"envir')
    assert RecordFile(path, ENVIRONMENT).records == {}
    assert not path.exists()


def test_refuses_records_of_other_versions(path):
    with pytest.raises(ValueError, match=r'should hold records of torch 2\.15, but they are of 2\.14\. Delete it'):
        RecordFile(path, {**ENVIRONMENT, 'torch': '2.15'})


@pytest.mark.parametrize('content', ['[1]\n', 'text\n', '{"environment": {}}\n'])
def test_refuses_another_file(path, content):
    path.write_text(content)
    with pytest.raises(ValueError, match='should hold the records of a sweep, but cannot be read: '):
        RecordFile(path, ENVIRONMENT)
