"""Starts and resumes the runs of a table's rows, each as a process.

A run is one row with one seed in one work dir:

    ROOT/SLUG/seedN/          of tools/train.py
        run.json              what was asked for
        train.log  test.log   output of the two processes
        test/TIMESTAMP/*.json of tools/test.py: the run is finished
"""
import fcntl
import hashlib
import json
import os
import os.path as osp
import signal
import subprocess  # noqa: S404 (runs this project's own tools)
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mmengine.config import Config

from ..atomic import write_atomically
from .work_dirs import RunError, last_checkpoint, test_metrics

WAIT_SECONDS = 5


@dataclass(frozen=True)
class Run:
    """One row with one seed.

    Args:
        name (str): The row's name.
        config (str): Path of its config.
        seed (int): Random seed of the training.
        work_dir (str): Its folder.
        options (tuple): Settings ``key=value`` that override the config's.
    """

    name: str
    config: str
    seed: int
    work_dir: str
    options: tuple[str, ...] = ()

    def path(self, *parts: str) -> str:
        return osp.join(self.work_dir, *parts)

    def request(self) -> dict:
        """The settings of a run, to distinguish it from another one in the
        same work dir."""
        text = Config.fromfile(self.config).pretty_text
        return dict(
            config=osp.basename(self.config),
            config_sha256=hashlib.sha256(text.encode()).hexdigest(),
            seed=self.seed,
            options=list(self.options))

    def state(self) -> str:
        """'finished', 'started' or 'new'.

        Raises:
            RunError: If the work dir holds another run.
        """
        try:
            with open(self.path('run.json')) as f:
                known = json.load(f)
        except FileNotFoundError:
            return 'new'
        wanted = self.request()
        different = [key for key in wanted if known.get(key) != wanted[key]]
        if different:
            raise RunError(
                f'{self.work_dir} holds a run with another '
                f'{" and ".join(different)}: name another --work-dir, or '
                'delete it')
        return 'finished' if test_metrics(self.work_dir) else 'started'


def command(script: str, gpus: int, *args: str) -> list[str]:
    """The command line of a tool, for several GPUs by torchrun."""
    if gpus < 2:
        return [sys.executable, script, *args]
    return [
        sys.executable, '-m', 'torch.distributed.run', '--standalone',
        '--nproc_per_node',
        str(gpus), script, *args, '--launcher', 'pytorch'
    ]


def call(args: list[str], log_file: str, lock, gpus: int,
         on_wait: Callable[[], None]) -> None:
    """Run a command, its output appended to a file.

    The command and all its children end with this process, and hold
    ``lock`` as long as they live.

    Raises:
        RunError: If it ends with another code than 0.
    """
    environment = dict(os.environ)
    if gpus == 0:
        environment['CUDA_VISIBLE_DEVICES'] = ''
    with open(log_file, 'a') as log:
        process = subprocess.Popen(  # noqa: S603 (a list, no shell)
            args,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock.fileno()],
            start_new_session=True)
        try:
            while True:
                try:
                    code = process.wait(timeout=WAIT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    on_wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    if code:
        raise RunError(f'{osp.basename(log_file)[:-4]} ended with exit code '
                       f'{code}, see {log_file}: {last_line(log_file)}')


def last_line(path: str) -> str:
    """The last line with text, which is the error of a failed tool."""
    with open(path, errors='replace') as f:
        return next(
            (line.strip() for line in reversed(deque(f, 20))
             if line.strip()), 'it is empty')


def execute(run: Run, tools: str, gpus: int,
            on_wait: Callable[[], None]) -> None:
    """Train and test a run; continues an earlier attempt.

    Args:
        run (Run): What to run.
        tools (str): Folder of train.py and test.py.
        gpus (int): GPUs (processes) to use; 0: the CPU.
        on_wait (Callable): Called every ``WAIT_SECONDS``.

    Raises:
        RunError: If one of the two fails, or the run is under way already.
    """
    os.makedirs(run.work_dir, exist_ok=True)
    with open(run.path('lock'), 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f'{run.work_dir}: another process is working on '
                           'this run') from None
        if run.state() == 'new':
            write_atomically(
                run.path('run.json'),
                json.dumps(run.request(), indent=2).encode())
        options = ['--cfg-options', *run.options]
        call(
            command(
                osp.join(tools, 'train.py'), gpus, run.config, '--work-dir',
                run.work_dir, '--resume', '--auto-scale-lr', *options,
                f'randomness.seed={run.seed}'), run.path('train.log'), lock,
            gpus, on_wait)
        checkpoint = last_checkpoint(run.work_dir)
        if checkpoint is None:
            raise RunError(f'train left no checkpoint in {run.work_dir}')
        call(
            command(
                osp.join(tools, 'test.py'), gpus, run.config, checkpoint,
                '--work-dir', run.path('test'),
                *(options if run.options else [])), run.path('test.log'), lock,
            gpus, on_wait)
        if not test_metrics(run.work_dir):
            raise RunError('test gave no metrics, as happens when nothing is '
                           f'detected, see {run.path("test.log")}')
