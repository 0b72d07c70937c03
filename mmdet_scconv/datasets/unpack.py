"""Unpacks archives so that an interrupted run can be continued.

Each file is written under another name and renamed when it is complete; files
that are there in their full size are kept. pooch's ``Unzip`` and ``Untar`` are
not used: they unpack nothing if the folder exists, but here an interrupted run
has made it, and three archives share one.
"""
import os
import os.path as osp
import tarfile
import zipfile
from collections.abc import Callable, Iterator

from rich.progress import Progress

from .downloads import CHUNK, PrepareError


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
