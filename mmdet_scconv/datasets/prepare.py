"""COCO 2017 and PASCAL VOC 07+12: download, check, unpack, check again.

An incomplete file is never used: see :mod:`.downloads` and :mod:`.unpack`. At
the end every listed image must be there.
"""
import os.path as osp
from dataclasses import replace

from .downloads import PrepareError, obtain
from .sources import Source
from .unpack import unpack


def prepare(source: Source, root: str, archives: str | None = None,
            may_download: bool = True,
            sums: dict[str, str] | None = None) -> list[str]:
    """Put a data set where the configs look for it.

    Does nothing if it is complete; otherwise adds what is missing. Downloads
    are kept in ``root/downloads``.

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
