"""Unpacking: repeated, and of hostile archives."""
import io
import stat
import tarfile
import zipfile

import pytest
from archives import write_archive

from mmdet_scconv.datasets.downloads import PrepareError
from mmdet_scconv.datasets.unpack import unpack


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
