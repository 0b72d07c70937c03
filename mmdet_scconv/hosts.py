"""Ends a run on several machines when one of them is lost.

The collectives of gloo and NCCL wait many minutes, or for ever, for a machine
that does not answer. Here each host increments a key in torchrun's store, and
reads the keys of the others.
"""
import ctypes
import os
import re
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore

PR_SET_PDEATHSIG = 1
FINISHED = 1 << 40  # no host counts so far
EXIT_CODE = 75  # EX_TEMPFAIL
# messages of gloo, NCCL and the store when the other side is gone
LOST = re.compile(
    r'gloo|nccl|connection (closed|reset)|broken pipe|timed? ?out', re.I)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends for any reason.

    Without it a worker whose torchrun was killed would continue to train. Only
    on Linux; elsewhere nothing happens.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def own_name() -> str:
    """Name of this host, and its address as the first host sees it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((os.environ['MASTER_ADDR'], 9))  # sends nothing
            address = probe.getsockname()[0]
        except OSError:
            address = 'address unknown'
    return f'{socket.gethostname()} ({address})'


class HostWatch:
    """Watches the other hosts of a torchrun, and ends this process when one
    is silent.

    Only time in which this process runs is counted: a process that computes
    for long without letting threads run does not take others for lost.

    Args:
        limit (float): Seconds of silence that end the run.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.interval = min(5., limit / 4)
        self.own = int(os.environ['GROUP_RANK'])
        hosts = range(int(os.environ['GROUP_WORLD_SIZE']))
        # seconds without a sign of life; those that have finished are left out
        self.silent = {host: 0. for host in hosts if host != self.own}
        self.names = {0: os.environ['MASTER_ADDR']}
        self.counts = {}
        self.store = None
        self.lock = threading.Lock()

    def start(self) -> None:
        for work in (self.talk, self.watch):
            threading.Thread(target=work, daemon=True).start()

    def connect(self) -> None:
        store = TCPStore(
            os.environ['MASTER_ADDR'],
            int(os.environ['MASTER_PORT']),
            is_master=False,
            timeout=timedelta(seconds=self.limit))
        self.store = PrefixStore('hosts', store)
        self.store.set(f'name{self.own}', own_name())

    def exchange(self) -> None:
        """Increment this host's key, and read those of the others."""
        if self.store is None:
            self.connect()
        # one of a host's processes is enough
        if os.environ['LOCAL_RANK'] == '0':
            self.store.add(f'count{self.own}', 1)
        for host in list(self.silent):
            count = self.store.add(f'count{host}', 0)
            if count >= FINISHED:
                # without the first host there is no store
                gone = list(self.silent) if host == 0 else [host]
                for name in gone:
                    self.silent.pop(name, None)
            elif count != self.counts.get(host, 0):
                self.names[host] = self.store.get(f'name{host}').decode()
                self.counts[host] = count
                self.silent[host] = 0.

    def talk(self) -> None:
        while self.silent:
            try:
                self.exchange()
            except (RuntimeError, OSError):  # no contact: still silent
                self.store = None
            time.sleep(self.interval)

    def watch(self) -> None:
        while self.silent:
            time.sleep(1)
            for host in list(self.silent):
                self.silent[host] += 1
            if any(s > self.limit for s in list(self.silent.values())):
                self.say()
                os._exit(EXIT_CODE)

    def say(self) -> None:
        """Name the silent hosts, by one of this host's processes."""
        with self.lock:
            lost = {host: seconds for host, seconds in self.silent.items()
                    if seconds > 2 * self.interval}
            if not lost or os.environ['LOCAL_RANK'] != '0':
                return
            names = ', '.join(
                f'{self.names.get(host, "of unknown name")} '
                f'(NODE_RANK={host}), silent for {seconds:.0f} s'
                for host, seconds in lost.items())
            print(
                f'\nLOST HOST: {names}. The run ends on this host, '
                f'{own_name()} (NODE_RANK={self.own}). When all hosts are '
                'back, the same commands with --resume continue from the last '
                'checkpoint.', flush=True)

    def finish(self) -> None:
        """Tell the others that this host has finished."""
        if self.store is not None and os.environ['LOCAL_RANK'] == '0':
            with suppress(RuntimeError):
                self.store.add(f'count{self.own}', FINISHED)
        self.silent.clear()

    def explain(self, error: Exception) -> None:
        """Wait until it is known whether an error comes from a lost host."""
        if not LOST.search(str(error)):
            return
        deadline = time.monotonic() + 4 * self.interval
        while time.monotonic() < deadline and not any(
                s > 2 * self.interval for s in self.silent.values()):
            time.sleep(0.2)
        self.say()


@contextmanager
def watched_hosts(seconds: float):
    """Watch the other hosts of a torchrun while the block runs; nothing where
    there is one host, or ``seconds`` is 0."""
    if seconds <= 0 or int(os.environ.get('GROUP_WORLD_SIZE', 1)) < 2:
        yield
        return
    hosts = HostWatch(seconds)
    hosts.start()
    try:
        yield
    except Exception as error:
        hosts.explain(error)
        raise
    hosts.finish()
