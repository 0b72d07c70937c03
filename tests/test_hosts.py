"""The watch over other machines; two of them: test_two_hosts.py."""
import multiprocessing
import os
import sys
import threading
import time

import pytest
from torch.distributed import PrefixStore, TCPStore

from mmdet_scconv import hosts
from mmdet_scconv.hosts import (
    FINISHED,
    HostWatch,
    die_with_parent,
    watched_hosts,
)

# processes that need not import anything
FORK = multiprocessing.get_context('fork')


@pytest.fixture
def store(monkeypatch):
    """Of the first of three hosts; this process is on the second."""
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    for key, value in dict(
            MASTER_ADDR='127.0.0.1', MASTER_PORT=store.port, GROUP_RANK=1,
            GROUP_WORLD_SIZE=3, LOCAL_RANK=0).items():
        monkeypatch.setenv(key, str(value))
    prefixed = PrefixStore('hosts', store)
    for host in (0, 2):
        prefixed.set(f'name{host}', f'machine{host}')
        prefixed.add(f'count{host}', 1)
    yield prefixed


def test_signs_of_life(store):
    watch = HostWatch(40.)
    watch.silent = {0: 30., 2: 30.}
    watch.exchange()
    assert watch.silent == {0: 0., 2: 0.}
    assert store.add('count1', 0) == 1
    watch.silent = {0: 30., 2: 30.}
    store.add('count0', 1)
    watch.exchange()
    assert watch.silent == {0: 0., 2: 30.}


def test_a_host_that_has_finished_is_not_lost(store):
    watch = HostWatch(40.)
    store.add('count2', FINISHED)
    watch.exchange()
    assert list(watch.silent) == [0]
    store.add('count0', FINISHED)
    watch.exchange()
    assert not watch.silent
    watch.finish()
    assert store.add('count1', 0) >= FINISHED


@pytest.fixture
def ended(monkeypatch):
    monkeypatch.setattr(hosts.time, 'sleep', lambda seconds: None)

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(hosts.os, '_exit', end)


def test_a_silent_host_is_named(store, ended, capsys):
    watch = HostWatch(40.)
    watch.exchange()
    watch.silent[2] = 35.
    with pytest.raises(SystemExit):
        watch.watch()
    said = capsys.readouterr().out
    assert 'LOST HOST: machine2 (NODE_RANK=2), silent for 41 s' in said
    assert 'machine0' not in said and '--resume' in said


def test_without_contact_all_are_silent(monkeypatch, store, ended, capsys):
    monkeypatch.setenv('MASTER_PORT', '9')
    watch = HostWatch(4.)
    monkeypatch.setattr(
        watch, 'connect', lambda: (_ for _ in ()).throw(OSError('no route')))
    with pytest.raises(OSError):
        watch.exchange()
    with pytest.raises(SystemExit):
        watch.watch()
    said = capsys.readouterr().out
    assert '127.0.0.1 (NODE_RANK=0)' in said and '(NODE_RANK=2)' in said


@pytest.mark.parametrize('text,explained', [
    ('[gloo/transport/tcp/pair.cc:534] Connection closed by peer', True),
    ('NCCL communicator was aborted', True),
    ('size mismatch for weight', False),
])
def test_what_may_come_from_a_lost_host(store, capsys, text, explained):
    watch = HostWatch(0.4)
    watch.silent[2] = 35.
    watch.explain(RuntimeError(text))
    assert ('LOST HOST' in capsys.readouterr().out) == explained


@pytest.mark.parametrize('count,seconds', [('1', 120), ('2', 0)])
def test_one_host_needs_no_watch(monkeypatch, count, seconds):
    monkeypatch.setenv('GROUP_WORLD_SIZE', count)
    before = threading.active_count()
    with watched_hosts(seconds):
        assert threading.active_count() == before


@pytest.mark.skipif(sys.platform != 'linux', reason='asks the Linux kernel')
def test_a_worker_ends_with_its_parent():
    def work(sender):
        die_with_parent()
        sender.send(os.getpid())
        time.sleep(60)

    def start(sender):
        worker = FORK.Process(target=work, args=(sender, ))
        worker.start()
        worker.join()

    receiver, sender = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=start, args=(sender, ))
    parent.start()
    assert receiver.poll(20)
    pid = receiver.recv()
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 20
    while os.path.exists(f'/proc/{pid}'):
        assert time.monotonic() < deadline
        time.sleep(0.05)
