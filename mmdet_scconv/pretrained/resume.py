"""Finds the checkpoint that a training is resumed from."""
import os.path as osp
import warnings
import zipfile
from collections.abc import Iterator
from glob import escape, glob

from mmengine.runner.checkpoint import find_latest_checkpoint

from ..errors import CheckpointError
from .reader import AGAIN, read_file

NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')


def check_resumable(path: str) -> None:
    """Check that a checkpoint is complete, checksums included, and can be
    resumed.

    A folder (of DeepSpeed) is not checked.

    Raises:
        NoCheckpointError: If there is no such file.
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
            raise CheckpointError(
                f'{path} is damaged: {error}. {AGAIN}') from error
        if broken is not None:
            raise CheckpointError(
                f'{path} is damaged: its part {broken} has a wrong checksum. '
                f'{AGAIN}')
    checkpoint = read_file(path)
    missing = [key for key in NEEDED if key not in checkpoint]
    if missing:
        raise CheckpointError(f'{path} cannot be resumed from: it has no '
                              f'{" and no ".join(missing)}')


def last_checkpoint(work_dir: str) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, also in a work dir that
    was moved or copied; None if there is none."""
    if not osp.isfile(osp.join(work_dir, 'last_checkpoint')):
        return None
    try:
        path = find_latest_checkpoint(work_dir)
    except UnicodeDecodeError:  # damaged
        return None
    if not path:
        return None
    inside = osp.join(work_dir, osp.basename(path))
    elsewhere = osp.exists(path) and not osp.exists(inside)
    return path if elsewhere else inside


def candidates(work_dir: str) -> Iterator[str]:
    """The last checkpoint, then the others in its folder and in the work dir,
    newest first; without the best ones, which hold only weights."""
    last = last_checkpoint(work_dir)
    folders = [work_dir]
    found = last is not None and osp.exists(last)
    if found:
        yield last
        folders.append(osp.dirname(last))
    others = {
        osp.realpath(path): path for folder in folders
        for path in glob(osp.join(escape(folder), '*.pth'))
        if not osp.basename(path).startswith('best_')
    }
    if found:
        others.pop(osp.realpath(last), None)
    yield from sorted(others.values(), key=osp.getmtime, reverse=True)


def has_checkpoints(work_dir: str) -> bool:
    return any(candidates(work_dir))


def find_resumable(work_dir: str) -> str | None:
    """The last good checkpoint of a work dir.

    Damaged ones are skipped, with a warning.

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
            warnings.warn(f'{error}. An older one is tried', stacklevel=2)
        else:
            return path
    if problems:
        raise CheckpointError(
            f'No checkpoint in {work_dir} can be resumed from:\n  ' +
            '\n  '.join(problems) + '\nRemove them to start again')
    return None
