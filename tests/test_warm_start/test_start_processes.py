"""The start of a training in processes of their own: several at once, and
one that is killed."""
import hashlib
import multiprocessing
import os
import re
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmdet_scconv.hooks import WarmStartHook
from mmdet_scconv.warm_start import start

SMALL = dict(depth=18, base_channels=16, zero_init_residual=False)
TIMEOUT = 240  # seconds, on a busy machine
SPAWN = multiprocessing.get_context('spawn')


class Detector(BaseModel):
    def __init__(self, checkpoint, **options):
        super().__init__(dict(type='ImgDataPreprocessor'))
        self.backbone = MODELS.build(dict(
            type='SCConvResNet', frozen_stages=1, norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
            **options))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.backbone(inputs)[-1].square().mean())


class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return dict(inputs=torch.full((3, 64, 64), i / 8))


def digest(network):
    """Of what the training starts with."""
    values = [value.numpy().tobytes()
              for value in network.state_dict().values()]
    return hashlib.sha256(b''.join(values)).hexdigest()


def train(rank, world, port, checkpoint, folder, found, dies):
    """A training of one iteration at a learning rate of 0.

    Puts what it did into ``found``: (rank, fits, digest of the backbone).
    With ``dies`` it is killed when the first layer has been fitted.
    """
    torch.set_num_threads(1)
    os.environ.update(
        XDG_CACHE_HOME=str(folder), MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world), CUDA_VISIBLE_DEVICES='')
    made, fit, fit_network = (
        start.generated_images, start.fit, start.fit_network)
    fits = []

    def fit_and_note(*args):
        fits.append(rank)
        return fit(*args)

    def fit_and_die(*args, **kwargs):
        return fit_network(*args, report=lambda *_: os.kill(
            os.getpid(), signal.SIGKILL))

    start.generated_images = lambda dense: made(dense, 16, 64)
    start.fit = fit_and_note
    if dies:
        start.fit_network = fit_and_die
    torch.manual_seed(rank)
    if world > 1:
        torch.distributed.init_process_group('gloo')
    runner = Runner(
        Detector(checkpoint, **SMALL), str(Path(folder) / f'work_dir{rank}'),
        train_dataloader=dict(
            batch_size=2, num_workers=0, dataset=Pictures(),
            sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)),
        launcher='pytorch' if world > 1 else 'none',
        # on CPUs
        cfg=dict(model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None)),
        log_level='WARNING', experiment_name='processes')
    runner.train()
    model = getattr(runner.model, 'module', runner.model)
    found.put((rank, len(fits), digest(model.backbone)))
    if world > 1:
        torch.distributed.destroy_process_group()


@pytest.fixture
def started(tmp_path):
    """Starts processes that train; their exit codes, and what they put."""
    torch.manual_seed(0)
    dense = ResNet(**SMALL)
    dense.init_weights()
    torch.save(dense.state_dict(), tmp_path / 'dense.pth')

    def run(world=1, dies=False):
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
        found = SPAWN.Queue()
        workers = [SPAWN.Process(target=train, args=(
            rank, world, port, str(tmp_path / 'dense.pth'), tmp_path,
            found, dies)) for rank in range(world)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(TIMEOUT)
        codes = [worker.exitcode for worker in workers]
        return codes, sorted(found.get() for code in codes if code == 0)

    return run


@pytest.mark.slow
def test_two_processes_fit_once_and_start_alike(started):
    codes, found = started(world=2)
    assert codes == [0, 0]
    (_, first, one), (_, second, other) = found
    assert (first, second) == (1, 0)
    assert one == other


@pytest.mark.slow
def test_killed_in_the_fit_and_started_again(started, tmp_path):
    codes, _ = started(dies=True)
    assert codes == [-signal.SIGKILL]
    assert not list(tmp_path.rglob('warm_start/*.pth'))
    (code, ), ((_, fits, first), ) = started()
    assert code == 0 and fits == 1
    # and once more, from the cache
    (code, ), ((_, fits, again), ) = started()
    assert code == 0 and fits == 0
    assert first == again


class Photographs(torch.utils.data.Dataset):
    """As large as COCO's in the usual pipeline."""

    def __len__(self):
        return 64

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        return dict(inputs=torch.randint(
            256, (3, 800, 1216), generator=generator, dtype=torch.uint8))


def start_at_full_width(checkpoint, folder, found):
    """Puts the number of fitted layers, and the most memory in bytes that this
    process has had."""
    torch.set_num_threads(1)
    os.environ.update(XDG_CACHE_HOME=str(folder), CUDA_VISIBLE_DEVICES='')
    model = Detector(checkpoint, depth=50)
    model.init_weights()
    WarmStartHook().before_train(SimpleNamespace(
        model=model, train_dataloader=SimpleNamespace(dataset=Photographs())))
    # not resource.getrusage: its maximum includes the parent's, from before
    # exec
    peak = re.search(r'VmHWM:\s+(\d+) kB',
                     Path('/proc/self/status').read_text())
    found.put((len(model.backbone.swapped_convs), 1024 * int(peak[1])))


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/status').exists(),
                    reason='reads the peak memory from /proc')
def test_memory_at_full_width(tmp_path):
    """ResNet-50, 64 images: below 2 GB, the imports included."""
    torch.manual_seed(0)
    dense = ResNet(50)
    dense.init_weights()
    torch.save(dense.state_dict(), tmp_path / 'dense.pth')
    found = SPAWN.Queue()
    worker = SPAWN.Process(target=start_at_full_width, args=(
        str(tmp_path / 'dense.pth'), tmp_path, found))
    worker.start()
    worker.join(4 * TIMEOUT)
    assert worker.exitcode == 0
    layers, peak = found.get()
    assert layers == 16
    assert peak < 2.0e9
