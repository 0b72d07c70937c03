"""Downloads archives, checks their MD5 sums, resumes after an interruption.

pooch does the cache, the checksums and the second attempt after a wrong sum.
The download itself is done here: pooch's starts at the first byte again after
an interruption (1.9.0 sends no ``Range``, and deletes the incomplete file),
and COCO's training images are one file of 18 GB.
"""
import os
import os.path as osp
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pooch
from pooch.hashes import file_hash
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..errors import UserError

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
ATTEMPTS = 5
MD5_LINE = re.compile(r'([0-9a-fA-F]{32}) [ *](.+)')


class PrepareError(UserError):
    """Data that cannot be downloaded or is incomplete."""


@dataclass(frozen=True)
class Archive:
    """A file to download; ``md5`` as its host or torchvision gives it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return osp.basename(self.url)


def fetch(url: str, part: str, progress: Progress, bar) -> None:
    """One attempt to complete ``part``, from where it ends."""
    start = osp.getsize(part) if osp.exists(part) else 0
    request = urllib.request.Request(  # noqa: S310 (URLs are constants here)
        url, headers={'Range': f'bytes={start}-'} if start else {})
    with urllib.request.urlopen(  # noqa: S310 (as above)
            request, timeout=TIMEOUT_SECONDS) as response:
        if response.status != 206:  # the host sends the whole file
            start = 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length else None
        progress.update(bar, completed=start, total=total)
        with open(part, 'ab' if start else 'wb') as f:
            while chunk := response.read(CHUNK):
                f.write(chunk)
                progress.update(bar, advance=len(chunk))
    if total is not None and osp.getsize(part) < total:
        raise ConnectionError(f'{osp.getsize(part)} of {total} bytes came')


def download(url: str, part: str, attempts: int = ATTEMPTS) -> None:
    """Complete the file ``part``.

    Raises:
        PrepareError: If it does not succeed; what was received is kept.
    """
    with Progress(
            TextColumn('{task.description}'), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task(osp.basename(url), total=None)
        for attempt in range(attempts):
            if attempt:
                time.sleep(2**(attempt - 1))
            try:
                return fetch(url, part, progress, bar)
            except urllib.error.HTTPError as error:
                if error.code == 416:  # the file is complete already
                    return None
                reason = error
            except (OSError, HTTPException) as error:
                reason = error
    raise PrepareError(
        f'{url} could not be downloaded: {reason}. The same command resumes '
        'it; or download it by any means and name its folder: '
        '--archives FOLDER')


class ResumingDownloader:
    """Downloads for pooch, through a file that is kept after an interruption.

    pooch gives a temporary file, and deletes it after any error. Therefore the
    file ``part`` is completed, and linked there: nothing is lost, even if the
    checksum, a minute for COCO, is interrupted.

    Args:
        part (str): The file to complete; remove it when pooch is done.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.delivered = False

    def __call__(self, url: str, output_file: str, pooch) -> None:
        """pooch's interface.

        Raises:
            PrepareError: If the download does not succeed.
        """
        if self.delivered:  # and its sum was wrong
            Path(self.part).unlink(missing_ok=True)
        download(url, self.part)
        self.delivered = True
        os.remove(output_file)
        try:
            os.link(self.part, output_file)
        except OSError:  # a file system without links
            os.replace(self.part, output_file)
        print(f'checksum of {osp.basename(url)} ...', flush=True)


def read_sums(path: str) -> dict[str, str]:
    """MD5 sums by file name, from a file as md5sum writes it.

    Raises:
        PrepareError: If there is no such file, or it has another format.
    """
    try:
        with open(path) as f:
            lines = [line.strip() for line in f]
    except (OSError, UnicodeDecodeError) as error:
        raise PrepareError(f'--md5 {path} cannot be read: {error}') from error
    sums = {}
    for line in filter(None, lines):
        found = MD5_LINE.fullmatch(line)
        if found is None:
            raise PrepareError(f'--md5 {path}: {line!r} is not a line of '
                               'md5sum, "SUM  NAME"')
        sums[osp.basename(found[2])] = found[1].lower()
    return sums


def obtain(archive: Archive, folder: str, own: str | None,
           may_download: bool) -> str:
    """Path of a whole archive: the user's own, a kept one, or a download.

    Args:
        archive (Archive): What is wanted.
        folder (str): Where downloads are kept.
        own (str | None): Folder of archives that the user has.
        may_download (bool): Whether a missing one is downloaded.

    Raises:
        PrepareError: If there is none, or it is damaged.
    """
    if own is not None and osp.isfile(osp.join(own, archive.name)):
        path = osp.join(own, archive.name)
        found = file_hash(path, 'md5')
        if found != archive.md5:
            raise PrepareError(
                f'{path} is damaged or incomplete: its MD5 is {found}, '
                f'expected {archive.md5}. Nothing was unpacked. If it was '
                'packed anew, name the sums that it should have: --md5 FILE')
        return path
    path = osp.join(folder, archive.name)
    if not may_download:
        if osp.isfile(path) and file_hash(path, 'md5') == archive.md5:
            return path
        raise PrepareError(
            f'{archive.name} is not in {own or folder}: it comes from '
            f'{archive.url}')
    part = f'{path}.part'
    cache = pooch.create(
        folder,
        base_url='',
        registry={archive.name: f'md5:{archive.md5}'},
        urls={archive.name: archive.url},
        retry_if_failed=1)
    try:
        cache.fetch(archive.name, downloader=ResumingDownloader(part))
    except ValueError as error:  # a wrong sum for the second time
        Path(part).unlink(missing_ok=True)
        raise PrepareError(f'{archive.url}: {error}') from error
    Path(part).unlink(missing_ok=True)
    return path
