"""Finds the checkpoint that a training goes on from."""
import os.path as osp
import warnings
import zipfile
from collections.abc import Iterator
from glob import escape, glob

from .safe_load import CheckpointError, load_as_data

NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')


def check_resumable(path: str) -> None:
    """Check that a checkpoint is whole, sums included, and can be resumed.

    A folder (of DeepSpeed) is left to what reads it.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, could run code, or holds weights
            alone; names what is wrong.
    """
    if osp.isdir(path):
        return
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise CheckpointError(f'{path} is damaged: {error}') from error
        if broken is not None:
            raise CheckpointError(
                f'{path} is damaged: its part {broken} has a wrong checksum')
    checkpoint = load_as_data(path)
    missing = [key for key in NEEDED if key not in checkpoint]
    if missing:
        raise CheckpointError(f'{path} cannot be resumed from: it has no '
                              f'{" and no ".join(missing)}')


def candidates(work_dir: str) -> Iterator[str]:
    """What ``last_checkpoint`` names, then the other checkpoints beside it
    and in the work dir, newest first. The best ones hold weights alone."""
    last = osp.join(work_dir, 'last_checkpoint')
    folders = [work_dir]
    named = ''
    if osp.isfile(last):
        with open(last, errors='replace') as f:
            named = f.read().strip()
    if named and not osp.exists(named):  # the work dir was moved
        named = osp.join(work_dir, osp.basename(named))
    if named and osp.exists(named):
        yield named
        folders.append(osp.dirname(named))
    others = {
        osp.realpath(path): path for folder in folders
        for path in glob(osp.join(escape(folder), '*.pth'))
        if not osp.basename(path).startswith('best_')
    }
    others.pop(osp.realpath(named), None)
    yield from sorted(others.values(), key=osp.getmtime, reverse=True)


def has_checkpoints(work_dir: str) -> bool:
    return any(candidates(work_dir))


def find_resumable(work_dir: str) -> str | None:
    """The last good checkpoint of a work dir.

    Damaged ones are passed over with a warning.

    Returns:
        str | None: Its path; None if the work dir has no checkpoint at all.

    Raises:
        CheckpointError: If there are checkpoints, and none is good.
    """
    problems = []
    for path in candidates(work_dir):
        try:
            check_resumable(path)
        except CheckpointError as error:
            problems.append(str(error))
            warnings.warn(f'{error}; trying an older one', stacklevel=2)
        else:
            return path
    if problems:
        raise CheckpointError(
            f'No checkpoint in {work_dir} can be resumed from:\n  ' +
            '\n  '.join(problems) + '\nRemove them to start anew')
    return None
