"""COCO 2017 and PASCAL VOC 07+12: download, check, unpack, check again.

Nothing half-finished is ever taken for data: a download is named ``.part``
until its checksum is right, a file that is being unpacked likewise until it
is whole, and at the end every listed image must be there.
"""
import hashlib
import json
import os
import os.path as osp
import re
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.client import HTTPException

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .voc_to_coco import voc_to_coco

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
ATTEMPTS = 5
MD5_LINE = re.compile(r'([0-9a-fA-F]{32}) [ *](.+)')


class PrepareError(Exception):
    """Data that cannot be had or is not whole; says what to do."""


@dataclass(frozen=True)
class Archive:
    """A file to download; ``md5`` as its host or torchvision gives it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return osp.basename(self.url)


@dataclass(frozen=True)
class Source:
    """What one data set is made of.

    Args:
        archives (tuple): Its archives.
        target (str): Folder to unpack them in, relative to the data root.
        check (Callable): Called with the data root, yields what is wrong.
        convert (Callable): Called with the data root when all is there,
            returns lines to print.
    """

    archives: tuple[Archive, ...]
    target: str
    check: Callable[[str], Iterator[str]]
    convert: Callable[[str], list[str]] = lambda root: []


VOC_HOST = 'http://host.robots.ox.ac.uk/pascal/VOC'
VOC_COUNTS = {
    'VOC2007/ImageSets/Main/trainval.txt': 5011,
    'VOC2007/ImageSets/Main/test.txt': 4952,
    'VOC2012/ImageSets/Main/trainval.txt': 11540,
}
COCO_HOST = 'http://images.cocodataset.org'
COCO_COUNTS = {'train2017': 118287, 'val2017': 5000}


def missing_files(folder: str, names: list[str]) -> Iterator[str]:
    """A line that tells how many of the files are not in the folder."""
    there = set(os.listdir(folder)) if osp.isdir(folder) else set()
    missing = [name for name in names if name not in there]
    if missing:
        yield (f'{folder}: {len(missing)} of {len(names)} files are missing, '
               f'{missing[0]} among them')


def check_voc(root: str, counts: dict[str, int] = VOC_COUNTS
              ) -> Iterator[str]:
    """Every image of the image sets is there, with its annotation."""
    devkit = osp.join(root, 'VOCdevkit')
    for image_set, count in counts.items():
        path = osp.join(devkit, image_set)
        if not osp.isfile(path):
            yield f'{path} is missing'
            continue
        with open(path) as f:
            names = f.read().split()
        if len(names) != count:
            yield f'{path} lists {len(names)} images, expected {count}'
        year = osp.join(devkit, image_set.split('/')[0])
        for folder, end in (('JPEGImages', 'jpg'), ('Annotations', 'xml')):
            yield from missing_files(
                osp.join(year, folder), [f'{name}.{end}' for name in names])


def convert_voc(root: str) -> list[str]:
    """COCO annotation files of the detection tables' two image sets."""
    devkit = osp.join(root, 'VOCdevkit')
    train_07, test_07, train_12 = VOC_COUNTS
    lines = []
    for name, image_sets in (('voc0712_trainval', [train_07, train_12]),
                             ('voc07_test', [test_07])):
        out_file = osp.join(devkit, 'annotations', f'{name}.json')
        counts = voc_to_coco(devkit, image_sets, out_file)
        lines.append(f'{out_file}: {counts["images"]} images, '
                     f'{counts["boxes"]} boxes, {counts["difficult"]} of them '
                     'difficult (kept as ignored)')
    return lines


def check_coco(root: str, counts: dict[str, int] = COCO_COUNTS
               ) -> Iterator[str]:
    """Every annotated image is there."""
    coco = osp.join(root, 'coco')
    for split, count in counts.items():
        path = osp.join(coco, 'annotations', f'instances_{split}.json')
        try:
            with open(path) as f:
                images = json.load(f)['images']
        except FileNotFoundError:
            yield f'{path} is missing'
            continue
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            yield f'{path} is damaged ({error})'
            continue
        if len(images) != count:
            yield f'{path} lists {len(images)} images, expected {count}'
        yield from missing_files(
            osp.join(coco, split), [image['file_name'] for image in images])


SOURCES = {
    'voc':
    Source(
        archives=(
            Archive(f'{VOC_HOST}/voc2007/VOCtrainval_06-Nov-2007.tar',
                    'c52e279531787c972589f7e41ab4ae64'),
            Archive(f'{VOC_HOST}/voc2007/VOCtest_06-Nov-2007.tar',
                    'b6e924de25625d8de591ea690078ad9f'),
            Archive(f'{VOC_HOST}/voc2012/VOCtrainval_11-May-2012.tar',
                    '6cd6e144f989b92b3379bac3b3de84fd'),
        ),
        target='',  # the archives hold VOCdevkit/
        check=check_voc,
        convert=convert_voc),
    'coco':
    Source(
        archives=(
            Archive(f'{COCO_HOST}/annotations/annotations_trainval2017.zip',
                    'f4bbac642086de4f52a3fdda2de5fa2c'),
            Archive(f'{COCO_HOST}/zips/val2017.zip',
                    '442b8da7639aecaf257c1dceb8ba8c80'),
            Archive(f'{COCO_HOST}/zips/train2017.zip',
                    'cced6f7f71b7629ddf16f17bbcfab6b2'),
        ),
        target='coco',
        check=check_coco),
}


def byte_progress() -> Progress:
    return Progress(
        TextColumn('{task.description}'), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(), TimeRemainingColumn())


def fetch(url: str, part: str, progress: Progress, bar) -> None:
    """One attempt to complete ``part``, from where it ends."""
    start = osp.getsize(part) if osp.exists(part) else 0
    request = urllib.request.Request(  # noqa: S310 (URLs are constants here)
        url, headers={'Range': f'bytes={start}-'} if start else {})
    with urllib.request.urlopen(  # noqa: S310 (as above)
            request, timeout=TIMEOUT_SECONDS) as response:
        if response.status != 206:  # the host sends all from the beginning
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


def download(url: str, path: str, attempts: int = ATTEMPTS) -> None:
    """Download to ``path``.part, resuming what is there.

    Raises:
        PrepareError: If it does not succeed; what came is kept.
    """
    part = f'{path}.part'
    os.makedirs(osp.dirname(path), exist_ok=True)
    with byte_progress() as progress:
        bar = progress.add_task(osp.basename(path), total=None)
        for attempt in range(attempts):
            if attempt:
                time.sleep(2**(attempt - 1))
            try:
                return fetch(url, part, progress, bar)
            except urllib.error.HTTPError as error:
                if error.code == 416:  # nothing beyond what is there
                    return None
                reason = error
            except (OSError, HTTPException) as error:
                reason = error
    raise PrepareError(
        f'{url} could not be downloaded: {reason}. The same command resumes '
        'it; or download it by any means and name its folder: '
        '--archives FOLDER')


def md5_of(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with byte_progress() as progress, open(path, 'rb') as f:
        bar = progress.add_task(
            f'checksum of {osp.basename(path)}', total=osp.getsize(path))
        while chunk := f.read(CHUNK):
            digest.update(chunk)
            progress.update(bar, advance=len(chunk))
    return digest.hexdigest()


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

    Raises:
        PrepareError: If there is none, or it is damaged.
    """
    if own is not None and osp.isfile(osp.join(own, archive.name)):
        path = osp.join(own, archive.name)
        found = md5_of(path)
        if found != archive.md5:
            raise PrepareError(
                f'{path} is damaged or incomplete: its MD5 is {found}, '
                f'expected {archive.md5}. Nothing was unpacked. If it was '
                'packed anew, name the sums that it should have: --md5 FILE')
        return path
    path = osp.join(folder, archive.name)
    if osp.isfile(path) and md5_of(path) == archive.md5:
        return path
    if not may_download:
        raise PrepareError(
            f'{archive.name} is not in {own or folder}: it comes from '
            f'{archive.url}')
    if osp.isfile(path):
        print(f'{path} is damaged: downloaded anew')
        os.remove(path)
    for _ in range(2):
        download(archive.url, path)
        found = md5_of(f'{path}.part')
        if found == archive.md5:
            os.replace(f'{path}.part', path)
            return path
        print(f'{archive.name}: wrong checksum, downloaded anew')
        os.remove(f'{path}.part')
    raise PrepareError(f'{archive.url} gives a file whose MD5 is {found}, '
                       f'expected {archive.md5}')


def members(archive: tarfile.TarFile | zipfile.ZipFile
            ) -> Iterator[tuple[str, int, Callable]]:
    """Name, size and opener of each regular file of an archive."""
    if isinstance(archive, zipfile.ZipFile):
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, (
                    lambda info=info: archive.open(info))
    else:
        for info in archive:
            if info.isfile():
                yield info.name, info.size, (
                    lambda info=info: archive.extractfile(info))


def unpack(path: str, target: str) -> int:
    """Unpack what is missing or has another size.

    Args:
        path (str): A .tar or .zip file.
        target (str): Folder to unpack in.

    Returns:
        int: Number of files that were written.

    Raises:
        PrepareError: If a name in the archive leads out of ``target``.
    """
    opener = zipfile.ZipFile if path.endswith('.zip') else tarfile.open
    written = 0
    inside = osp.realpath(target)
    with opener(path) as archive, Progress() as progress:
        bar = progress.add_task(f'unpacking {osp.basename(path)}', total=None)
        for name, size, open_member in members(archive):
            out = osp.realpath(osp.join(inside, name))
            if osp.commonpath([inside, out]) != inside:
                raise PrepareError(f'{path}: member {name!r} leads out of '
                                   f'{target}, nothing more is unpacked')
            progress.update(bar, advance=1)
            if osp.isfile(out) and osp.getsize(out) == size:
                continue
            os.makedirs(osp.dirname(out), exist_ok=True)
            with open_member() as source, open(f'{out}.part', 'wb') as f:
                while chunk := source.read(CHUNK):
                    f.write(chunk)
            os.replace(f'{out}.part', out)
            written += 1
    return written


def prepare(source: Source, root: str, archives: str | None = None,
            may_download: bool = True,
            sums: dict[str, str] | None = None) -> list[str]:
    """Bring a data set to where the configs look for it.

    Does nothing where it is complete; repairs what is not. Downloads are kept
    in ``root/downloads``.

    Args:
        source (Source): One of ``SOURCES``.
        root (str): The data root, ``data`` in the configs.
        archives (str): Folder with archives that are there already.
        may_download (bool): Whether missing ones are downloaded.
        sums (dict): MD5 sums of archives by name, instead of those of the
            official ones.

    Returns:
        list: Lines that tell what was done.

    Raises:
        PrepareError: If there is no folder ``archives``, or the data set is
            not complete at the end.
    """
    if archives is not None and not osp.isdir(archives):
        raise PrepareError(
            f'--archives {archives}: no such folder. It should hold ' +
            ', '.join(a.name for a in source.archives) +
            '; without --archives they are downloaded')
    problems = list(source.check(root))
    lines = []
    if problems:
        for archive in source.archives:
            if sums and archive.name in sums:
                archive = replace(archive, md5=sums[archive.name])
            path = obtain(archive, osp.join(root, 'downloads'), archives,
                          may_download)
            count = unpack(path, osp.join(root, source.target))
            lines.append(f'{path}: {count} files unpacked')
        problems = list(source.check(root))
    if problems:
        raise PrepareError('the data set is not complete:\n  ' +
                           '\n  '.join(problems))
    return [*lines, *source.convert(root)]
