"""Data preparation, with small archives."""
import hashlib
import json
from functools import partial

import pytest
from archives import write_archive

from mmdet_scconv.datasets.downloads import Archive, PrepareError, read_sums
from mmdet_scconv.datasets.prepare import prepare
from mmdet_scconv.datasets.sources import (
    SOURCES,
    VOC_COUNTS,
    Source,
    check_coco,
    check_voc,
    convert_voc,
)
from mmdet_scconv.datasets.unpack import unpack


def voc_files():
    """Two archives' worth of a VOC with one image an image set."""
    xml = ('<annotation><size><width>9</width><height>9</height></size>'
           '<object><name>cat</name><difficult>0</difficult><bndbox>'
           '<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>'
           '</object></annotation>')
    return {
        f'VOCdevkit/{year}/{folder}': content.format(name=name)
        for year, split, name in (('VOC2007', 'trainval', 'a'),
                                  ('VOC2007', 'test', 'b'),
                                  ('VOC2012', 'trainval', 'c'))
        for folder, content in ((f'ImageSets/Main/{split}.txt', '{name}\n'),
                                (f'JPEGImages/{name}.jpg', ''),
                                (f'Annotations/{name}.xml', xml))
    }


@pytest.fixture
def voc_source(tmp_path):
    """VOC at the size of three images, its archive in ``own``."""
    own = tmp_path / 'own'
    own.mkdir()
    write_archive(own / 'voc.tar', voc_files())
    md5 = hashlib.md5(
        (own / 'voc.tar').read_bytes(), usedforsecurity=False).hexdigest()
    counts = dict.fromkeys(VOC_COUNTS, 1)
    return Source((Archive('http://127.0.0.1:9/voc.tar', md5), ), '',
                  partial(check_voc, counts=counts), convert_voc)


def test_prepare_voc(tmp_path, voc_source):
    root, own = tmp_path / 'data', str(tmp_path / 'own')
    lines = prepare(voc_source, str(root), own, may_download=False)
    assert lines[0].endswith('9 files unpacked')
    train = json.loads(
        (root / 'VOCdevkit/annotations/voc0712_trainval.json').read_text())
    assert [image['file_name'] for image in train['images']] == [
        'VOC2007/JPEGImages/a.jpg', 'VOC2012/JPEGImages/c.jpg'
    ]
    # complete: no archive is asked for
    assert len(prepare(voc_source, str(root), may_download=False)) == 2
    (root / 'VOCdevkit/VOC2007/JPEGImages/b.jpg').unlink()
    assert prepare(voc_source, str(root), own)[0].endswith('1 files unpacked')


@pytest.mark.parametrize('break_it,message', [
    (lambda voc: (voc / 'VOC2007/ImageSets/Main/test.txt').unlink(),
     r'test.txt is missing'),
    (lambda voc: (voc / 'VOC2007/ImageSets/Main/test.txt').write_text(''),
     r'test.txt lists 0 images, expected 1'),
    (lambda voc: (voc / 'VOC2012/JPEGImages/c.jpg').unlink(),
     r'JPEGImages: 1 of 1 files are missing, c.jpg among them'),
    (lambda voc: (voc / 'VOC2012/Annotations/c.xml').unlink(),
     r'Annotations: 1 of 1 files are missing'),
])
def test_check_voc(tmp_path, voc_source, break_it, message):
    unpack(str(tmp_path / 'own/voc.tar'), str(tmp_path))
    assert list(voc_source.check(str(tmp_path))) == []
    break_it(tmp_path / 'VOCdevkit')
    problem, = voc_source.check(str(tmp_path))
    assert message in problem


@pytest.mark.parametrize('content,message', [
    (None, 'is missing'),
    ('{"images": [', 'is damaged'),
    ('[]', 'is damaged'),
    ('{"images": []}', 'lists 0 images, expected 1'),
    ('{"images": [{"file_name": "2.jpg"}]}',
     '1 of 1 files are missing, 2.jpg among them'),
    ('{"images": [{"file_name": "1.jpg"}]}', None),
])
def test_check_coco(tmp_path, content, message):
    path = tmp_path / 'coco/annotations/instances_val2017.json'
    image = tmp_path / 'coco/val2017/1.jpg'
    for file in (path, image):
        file.parent.mkdir(parents=True)
    image.touch()
    if content is not None:
        path.write_text(content)
    problems = list(check_coco(str(tmp_path), dict(val2017=1)))
    assert len(problems) == (message is not None)
    assert message is None or message in problems[0]


@pytest.mark.parametrize('name', list(SOURCES))
def test_what_is_missing_is_named(tmp_path, name):
    with pytest.raises(PrepareError, match=SOURCES[name].archives[0].name):
        prepare(SOURCES[name], str(tmp_path), may_download=False)


def test_a_folder_of_archives_that_is_not_there(tmp_path):
    """Nothing is downloaded in its place, whatever is allowed."""
    with pytest.raises(PrepareError, match='--archives .*no such folder'):
        prepare(SOURCES['coco'], str(tmp_path / 'data'),
                str(tmp_path / 'nowhere'), may_download=True)
    assert not (tmp_path / 'data').exists()


def test_archives_that_were_packed_anew(tmp_path, voc_source):
    """Their sums come from a file of md5sum; without it they are refused."""
    own, root = tmp_path / 'own', str(tmp_path / 'data')
    files = dict(voc_files(), note='packed anew')
    write_archive(own / 'voc.tar', files)
    with pytest.raises(PrepareError, match='--md5 FILE'):
        prepare(voc_source, root, str(own), may_download=False)
    digest = hashlib.md5(
        (own / 'voc.tar').read_bytes(), usedforsecurity=False).hexdigest()
    (own / 'sums').write_text(f'{digest} *./elsewhere/voc.tar\n\n')
    sums = read_sums(str(own / 'sums'))
    lines = prepare(voc_source, root, str(own), may_download=False, sums=sums)
    assert lines[0].endswith('10 files unpacked')
    (own / 'voc.tar').write_bytes(b'damaged')
    (tmp_path / 'data/VOCdevkit/VOC2007/JPEGImages/a.jpg').unlink()
    with pytest.raises(PrepareError, match='is damaged'):
        prepare(voc_source, root, str(own), may_download=False, sums=sums)
