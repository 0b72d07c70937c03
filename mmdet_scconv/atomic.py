"""Files and folders that are either complete or not there."""
import os
import os.path as osp
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mmengine.fileio import LocalBackend, register_backend

PART = '.part'


def write_atomically(path: str, data: bytes) -> None:
    """Write a file under another name, and rename it when it is on the disk.

    Whenever the process or the machine stops, ``path`` is the old file or the
    new one.

    Raises:
        OSError: If it cannot be written, e.g. to a full disk; the old file is
            kept.
    """
    part = f'{path}{PART}'
    try:
        with open(part, 'wb') as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise
    # flush the new name, too, where that is possible: on some network shares a
    # folder cannot be opened or flushed
    with suppress(OSError):
        folder = os.open(osp.dirname(path) or os.curdir, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A folder to fill, which becomes ``path`` at the end of the block.

    A folder of that name is therefore always complete. Files that an
    interrupted process left beside it are deleted by the next process.

    Raises:
        FileExistsError: If ``path`` exists.
    """
    path = osp.abspath(path)
    if osp.exists(path):
        raise FileExistsError(f'{path} exists: delete it, or name another '
                              'folder')
    unfinished = f'{path}.unfinished'
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished)
    yield unfinished
    os.rename(unfinished, path)


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """MMEngine's local files, written atomically:
    ``backend_args=dict(backend='atomic')``."""

    def put(self, obj: bytes, filepath: str) -> None:
        os.makedirs(osp.dirname(filepath) or os.curdir, exist_ok=True)
        write_atomically(str(filepath), obj)

    def put_text(self, obj: str, filepath: str,
                 encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)
