import multiprocessing
import os
import signal
import time

import pytest
import torch

from mmdet_scconv.warm_start import (
    cache_dir,
    cache_key,
    load_fitted,
    once,
    store_fitted,
)

WEIGHTS = dict(a=torch.ones(2), b=torch.zeros(3))
IMAGES = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize('change', [
    dict(weights=dict(WEIGHTS, a=torch.tensor([1., 2.]))),
    dict(weights=dict(c=torch.ones(2), b=torch.zeros(3))),
    dict(weights=dict(WEIGHTS, a=torch.ones(2, dtype=torch.float64))),
    dict(images=IMAGES + 1),
    dict(images=IMAGES.reshape(2, 3, 2, 8)),
    dict(options=dict(alpha=0.75)),
])
def test_key_depends_on(change):
    given = dict(weights=WEIGHTS, images=IMAGES, options=dict(alpha=0.5))
    assert cache_key(**given) == cache_key(**given)
    assert cache_key(**given) != cache_key(**{**given, **change})


def test_key_depends_on_the_version(monkeypatch):
    first = cache_key(WEIGHTS, IMAGES, {})
    monkeypatch.setattr('mmdet_scconv.warm_start.cache.__version__', 'x')
    assert cache_key(WEIGHTS, IMAGES, {}) != first


def test_order_of_the_weights_does_not_matter():
    assert cache_key(WEIGHTS, IMAGES, {}) == cache_key(
        dict(reversed(WEIGHTS.items())), IMAGES, {})


def test_folder(monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', '/x')
    assert cache_dir() == '/x/mmdet_scconv/warm_start'


def test_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return dict(state_dict=WEIGHTS)

    for found in (False, True):
        content, known = once('key', compute, str(tmp_path))
        assert known is found
        assert torch.equal(content['state_dict']['a'], WEIGHTS['a'])
    assert len(calls) == 1


def test_damaged_file_is_computed_again(tmp_path):
    store_fitted(str(tmp_path / 'key.pth'), dict(a=1))
    whole = (tmp_path / 'key.pth').read_bytes()
    (tmp_path / 'key.pth').write_bytes(whole[:len(whole) // 2])
    assert load_fitted(str(tmp_path / 'key.pth')) is None
    assert once('key', lambda: dict(a=2), str(tmp_path)) == (dict(a=2), False)
    assert once('key', lambda: dict(a=3), str(tmp_path)) == (dict(a=2), True)


def test_a_full_disk_only_disables_the_cache(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmdet_scconv.warm_start.cache.write_atomically',
                        full)
    assert once('key', lambda: dict(a=2), str(tmp_path)) == (dict(a=2), False)
    assert not list(tmp_path.glob('*.pth'))


def test_no_home_folder(without_home):
    assert once('key', lambda: dict(a=2)) == (dict(a=2), False)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    assert once('key', lambda: dict(a=2), str(tmp_path / 'file/x')) == (
        dict(a=2), False)


def slow(folder, queue, seconds):
    def compute():
        queue.put('computes')
        time.sleep(seconds)
        return dict(pid=os.getpid())

    queue.put(once('key', compute, folder))


def test_one_process_computes_and_the_other_waits(tmp_path):
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    workers = [context.Process(target=slow, args=(str(tmp_path), queue, 0.5))
               for _ in range(2)]
    for worker in workers:
        worker.start()
    said = [queue.get(timeout=60) for _ in range(3)]
    for worker in workers:
        worker.join()
    assert said.count('computes') == 1
    (first, _), (second, _) = [s for s in said if s != 'computes']
    assert first == second


def test_killed_while_it_computes(tmp_path):
    """Nothing is left, and the next one is not held up."""
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    worker = context.Process(target=slow, args=(str(tmp_path), queue, 60))
    worker.start()
    assert queue.get(timeout=60) == 'computes'
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert not list(tmp_path.glob('*.pth'))
    assert once('key', lambda: dict(a=2), str(tmp_path)) == (dict(a=2), False)
