"""Data preparation, with small archives from a server on this machine."""
import hashlib
import http.server
import io
import json
import stat
import tarfile
import threading
import zipfile
from functools import partial

import pytest

from mmdet_scconv.datasets import prepare as module
from mmdet_scconv.datasets.prepare import (
    SOURCES,
    Archive,
    PrepareError,
    Source,
    check_coco,
    check_voc,
    download,
    obtain,
    prepare,
    read_sums,
    unpack,
)

CONTENT = bytes(range(256)) * 40


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``; the server's settings make it misbehave."""

    def do_GET(self):
        server = self.server
        start = 0
        asked = self.headers.get('Range')
        server.ranges.append(asked)
        if asked and server.knows_ranges:
            start = int(asked.removeprefix('bytes=').removesuffix('-'))
            if start >= len(server.content):
                return self.send_error(416)
            self.send_response(206)
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if server.cut_after is not None:
            body, server.cut_after = body[:server.cut_after], None
        self.wfile.write(body)
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, 'sleep', lambda seconds: None)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.content, server.ranges = CONTENT, []
    server.knows_ranges, server.cut_after = True, None
    server.url = f'http://127.0.0.1:{server.server_port}/archive.tar'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def archive_of(server):
    return Archive(server.url,
                   hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())


@pytest.mark.parametrize('knows_ranges', [True, False])
def test_download_resumes(server, tmp_path, knows_ranges):
    """Also in one run, when the connection breaks."""
    server.knows_ranges, server.cut_after = knows_ranges, 1000
    path = tmp_path / 'folder' / 'archive.tar'
    download(server.url, str(path))
    assert not path.exists()
    part = path.with_name('archive.tar.part')
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None, 'bytes=1000-']


def test_download_that_is_complete_already(server, tmp_path):
    (tmp_path / 'archive.tar.part').write_bytes(CONTENT)
    download(server.url, str(tmp_path / 'archive.tar'))
    assert (tmp_path / 'archive.tar.part').read_bytes() == CONTENT


def test_download_without_a_host_says_what_to_do(tmp_path, server):
    server.shutdown()
    server.server_close()
    (tmp_path / 'archive.tar.part').write_bytes(b'kept')
    with pytest.raises(PrepareError, match='--archives FOLDER'):
        download(server.url, str(tmp_path / 'archive.tar'), attempts=2)
    assert (tmp_path / 'archive.tar.part').read_bytes() == b'kept'


def test_damaged_part_is_downloaded_anew(server, tmp_path):
    (tmp_path / 'archive.tar.part').write_bytes(b'x' * 500)
    path = obtain(archive_of(server), str(tmp_path), None, True)
    assert open(path, 'rb').read() == CONTENT
    assert server.ranges == ['bytes=500-', None]


def test_damaged_download_is_downloaded_anew(server, tmp_path):
    (tmp_path / 'archive.tar').write_bytes(CONTENT[:-1])
    path = obtain(archive_of(server), str(tmp_path), None, True)
    assert open(path, 'rb').read() == CONTENT


def test_wrong_file_of_the_host_is_never_taken(server, tmp_path):
    server.content = b'an error page'
    with pytest.raises(PrepareError, match='expected'):
        obtain(archive_of(server), str(tmp_path), None, True)
    assert list(tmp_path.iterdir()) == []


def test_own_archive(server, tmp_path):
    own, kept = tmp_path / 'own', str(tmp_path / 'kept')
    own.mkdir()
    archive = archive_of(server)
    (own / 'archive.tar').write_bytes(CONTENT)
    assert obtain(archive, kept, str(own), False) == str(own / 'archive.tar')
    (own / 'archive.tar').write_bytes(CONTENT[:-1])
    with pytest.raises(PrepareError, match='is damaged or incomplete'):
        obtain(archive, kept, str(own), True)
    assert (own / 'archive.tar').read_bytes() == CONTENT[:-1]
    assert server.ranges == []


def test_no_download(server, tmp_path):
    with pytest.raises(PrepareError, match='comes from http://127'):
        obtain(archive_of(server), str(tmp_path), None, False)


def write_archive(path, files):
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, 'w') as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content.encode()))


@pytest.mark.parametrize('end', ['zip', 'tar'])
def test_unpack_repairs(tmp_path, end):
    archive, target = tmp_path / f'a.{end}', tmp_path / 'out'
    write_archive(archive, {'x/1.txt': 'one', 'x/2.txt': 'two'})
    assert unpack(str(archive), str(target)) == 2
    assert unpack(str(archive), str(target)) == 0
    (target / 'x/1.txt').write_text('o')  # as after a kill of another tool
    (target / 'x/2.txt').unlink()
    assert unpack(str(archive), str(target)) == 2
    assert (target / 'x/1.txt').read_text() == 'one'


@pytest.mark.parametrize('end', ['zip', 'tar'])
@pytest.mark.parametrize('name', ['../evil.txt', '/evil.txt'])
def test_unpack_stays_inside(tmp_path, end, name):
    archive = tmp_path / f'a.{end}'
    write_archive(archive, {name: 'evil'})
    with pytest.raises(PrepareError, match='leads out of'):
        unpack(str(archive), str(tmp_path / 'out'))
    assert not (tmp_path / 'evil.txt').exists()


@pytest.mark.parametrize('link', [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_unpack_makes_no_links(tmp_path, link):
    """A link, then a file through it: the way around a check of names."""
    outside = tmp_path / 'outside'
    outside.mkdir()
    archive = tmp_path / 'a.tar'
    with tarfile.open(archive, 'w') as tar:
        info = tarfile.TarInfo('x')
        info.type, info.linkname = link, str(outside)
        tar.addfile(info)
        info = tarfile.TarInfo('x/evil.txt')
        info.size = 4
        tar.addfile(info, io.BytesIO(b'evil'))
    assert unpack(str(archive), str(tmp_path / 'out')) == 1
    assert list(outside.iterdir()) == []
    assert not (tmp_path / 'out/x').is_symlink()


def test_unpack_makes_no_links_of_a_zip(tmp_path):
    info = zipfile.ZipInfo('x')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr(info, '/etc/passwd')
    unpack(str(tmp_path / 'a.zip'), str(tmp_path / 'out'))
    assert not (tmp_path / 'out/x').is_symlink()


def test_unpack_does_not_follow_a_link_that_is_there(tmp_path):
    (tmp_path / 'outside').mkdir()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/x').symlink_to(tmp_path / 'outside')
    write_archive(tmp_path / 'a.tar', {'x/evil.txt': 'evil'})
    with pytest.raises(PrepareError, match='leads out of'):
        unpack(str(tmp_path / 'a.tar'), str(tmp_path / 'out'))


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
    counts = dict.fromkeys(module.VOC_COUNTS, 1)
    return Source((Archive('http://127.0.0.1:9/voc.tar', md5), ), '',
                  partial(check_voc, counts=counts), module.convert_voc)


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


@pytest.mark.parametrize('text', [None, 'voc.tar', 'abc  voc.tar'])
def test_sums_that_are_none(tmp_path, text):
    if text is not None:
        (tmp_path / 'sums').write_text(text)
    with pytest.raises(PrepareError, match='--md5 .*sums'):
        read_sums(str(tmp_path / 'sums'))
