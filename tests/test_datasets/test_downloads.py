"""Downloads, from a server on this machine."""
import hashlib
import http.server
import threading

import pytest

from mmdet_scconv.datasets import downloads as module
from mmdet_scconv.datasets.downloads import (
    Archive,
    PrepareError,
    download,
    obtain,
    read_sums,
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
    part = tmp_path / 'archive.tar.part'
    download(server.url, str(part))
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None, 'bytes=1000-']


def test_download_that_is_complete_already(server, tmp_path):
    (tmp_path / 'archive.tar.part').write_bytes(CONTENT)
    download(server.url, str(tmp_path / 'archive.tar.part'))
    assert (tmp_path / 'archive.tar.part').read_bytes() == CONTENT


def test_download_without_a_host_says_what_to_do(tmp_path, server):
    server.shutdown()
    server.server_close()
    (tmp_path / 'archive.tar.part').write_bytes(b'kept')
    with pytest.raises(PrepareError, match='--archives FOLDER'):
        download(server.url, str(tmp_path / 'archive.tar.part'), attempts=2)
    assert (tmp_path / 'archive.tar.part').read_bytes() == b'kept'


def test_interrupted_download_is_resumed(server, tmp_path):
    """By a second command, through pooch's cache."""
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / 'archive.tar.part').write_bytes(CONTENT[:1000])
    path = obtain(archive_of(server), str(folder), None, True)
    assert open(path, 'rb').read() == CONTENT
    assert server.ranges == ['bytes=1000-']
    assert [file.name for file in folder.iterdir()] == ['archive.tar']


@pytest.mark.parametrize('links', [True, False])
def test_interrupted_checksum(server, tmp_path, monkeypatch, links):
    """The download is kept where files can be linked."""
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    def no_links(*args):
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr('pooch.core.hash_matches', interrupt)
        if not links:
            patch.setattr(module.os, 'link', no_links)
        with pytest.raises(KeyboardInterrupt):
            obtain(archive_of(server), str(tmp_path), None, True)
    kept = [file.name for file in tmp_path.iterdir()]
    assert kept == (['archive.tar.part'] if links else [])
    path = obtain(archive_of(server), str(tmp_path), None, True)
    assert open(path, 'rb').read() == CONTENT
    assert server.ranges == [None, f'bytes={len(CONTENT)}-'
                             if links else None]


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


@pytest.mark.parametrize('text', [None, 'voc.tar', 'abc  voc.tar'])
def test_md5_file_of_another_format(tmp_path, text):
    if text is not None:
        (tmp_path / 'sums').write_text(text)
    with pytest.raises(PrepareError, match='--md5 .*sums'):
        read_sums(str(tmp_path / 'sums'))
