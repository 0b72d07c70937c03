"""Two machines, of which one is lost: two network namespaces on this one.

``pytest -m slow -s tests/test_two_hosts.py`` (needs root and iproute2) trains
on both over a virtual cable, then cuts it, or kills one torchrun. Both sides
have to end and to name the other, and to go on with --resume.
"""
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from conftest import REPO

CONFIG = str(REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py')
LIMIT = 20  # seconds
EPOCHS = 10
OPTIONS = [
    '--work-dir', 'run', '--host-timeout', LIMIT, '--resume', '--cfg-options',
    f'train_cfg.max_epochs={EPOCHS}', f'train_cfg.val_interval={EPOCHS}',
    'train_dataloader.batch_size=1', 'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0', 'default_hooks.logger.interval=1',
    'randomness.seed=0'
]

pytestmark = pytest.mark.slow


def ip(*args):
    return subprocess.run(
        ['ip', *args],  # noqa: S607
        capture_output=True,
        text=True)


@dataclass
class Host:
    """A namespace, in the network 10.77.0.0/24."""

    name: str
    cable: str
    address: str
    rank: int
    folder: object
    process: subprocess.Popen | None = None

    @property
    def log(self):
        return self.folder / f'host{self.rank}.log'

    def text(self):
        return self.log.read_text(errors='replace')

    def pids(self):
        return [int(pid) for pid in ip('netns', 'pids', self.name
                                       ).stdout.split()]

    def start(self):
        with open(self.log, 'w') as out:
            self.process = subprocess.Popen(
                ['ip', 'netns', 'exec', self.name,  # noqa: S607
                 str(REPO / 'tools/dist_train.sh'), CONFIG, '1',
                 *map(str, OPTIONS)],
                cwd=self.folder, stdout=out, stderr=subprocess.STDOUT,
                env=dict(
                    os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1',
                    CUDA_VISIBLE_DEVICES='', NNODES='2',
                    NODE_RANK=str(self.rank), MASTER_ADDR='10.77.0.1',
                    GLOO_SOCKET_IFNAME=self.cable))

    def end(self, seconds):
        """Its exit code; all of it has to be gone."""
        code = self.process.wait(seconds)
        deadline = time.monotonic() + 10
        while self.pids():
            assert time.monotonic() < deadline, self.pids()
            time.sleep(0.2)
        return code


@pytest.fixture
def hosts(tmp_path, data_home):
    if shutil.which('ip') is None:
        pytest.skip('no ip command: install iproute2')
    (tmp_path / 'data').symlink_to(data_home / 'data')
    both = [
        Host(f'scconv-{os.getpid()}-{i}', f'cable{i}', f'10.77.0.{i + 1}', i,
             tmp_path) for i in range(2)
    ]
    try:
        for host in both:
            made = ip('netns', 'add', host.name)
            if made.returncode:
                pytest.skip('network namespaces cannot be made here: '
                            f'{made.stderr.strip()}')
        made = ip('link', 'add', both[0].cable, 'netns', both[0].name, 'type',
                  'veth', 'peer', 'name', both[1].cable, 'netns', both[1].name)
        if made.returncode:
            pytest.skip(f'no virtual cable here: {made.stderr.strip()}')
        for host in both:
            for args in (('addr', 'add', f'{host.address}/24', 'dev',
                          host.cable), ('link', 'set', host.cable, 'up'),
                         ('link', 'set', 'lo', 'up')):
                assert ip('-n', host.name, *args).returncode == 0
        yield both
    finally:
        for host in both:
            for pid in host.pids():
                os.kill(pid, 9)
            ip('netns', 'del', host.name)


def wait_for(found, hosts, seconds=300):
    deadline = time.monotonic() + seconds
    while not found():
        for host in hosts:
            assert host.process.poll() is None, host.text()[-3000:]
        assert time.monotonic() < deadline, hosts[0].text()[-3000:]
        time.sleep(0.1)


@pytest.mark.parametrize('loss', ['cut', 'killed first', 'killed second'])
def test_a_lost_host_ends_the_run(hosts, loss):
    for host in hosts:
        host.start()
    wait_for(lambda: 'Saving checkpoint at 2 ' in hosts[0].text(), hosts)
    begin = time.monotonic()
    if loss == 'cut':
        ip('-n', hosts[0].name, 'link', 'set', hosts[0].cable, 'down')
        sufferers = hosts
    else:
        killed = hosts[loss.endswith('second')]
        killed.process.kill()
        assert killed.end(10) == -9  # no orphan
        sufferers = [host for host in hosts if host is not killed]
    for host in sufferers:
        code = host.end(LIMIT + 30)
        seconds = time.monotonic() - begin
        other = hosts[1 - host.rank]
        said = [line for line in host.text().splitlines()
                if line.startswith('LOST HOST')]
        print(f'\n{loss}: {host.address} ended after {seconds:.0f} s: '
              f'{said}')
        assert code != 0
        assert len(said) == 1 and f'{other.address}' in said[0].split('. ')[0]
        assert '--resume' in said[0]
    ip('-n', hosts[0].name, 'link', 'set', hosts[0].cable, 'up')
    for host in hosts:
        host.start()
    for host in hosts:
        assert host.end(600) == 0, host.text()[-3000:]
    assert 'resumed epoch: ' in hosts[0].text()
    assert 'LOST HOST' not in hosts[0].text() + hosts[1].text()
    assert (hosts[0].folder / f'run/epoch_{EPOCHS}.pth').exists()
