"""Training in several processes: on CPUs, and the end of the processes."""
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import is_main_process

SYNC_BN = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')


def without_sync_bn(node) -> bool:
    """Turn every SyncBatchNorm of a model's config into BatchNorm; returns
    whether there was one."""
    found = False
    if isinstance(node, dict):
        if node.get('type') in SYNC_BN:
            node['type'] = 'BN'
            found = True
        children = list(node.values())
    else:
        children = list(node) if isinstance(node, list | tuple) else []
    return any([found, *map(without_sync_bn, children)])


def join_cpu_processes(cfg: Config) -> None:
    """Let the processes of torchrun train on the CPU, over gloo.

    MMEngine's own set-up selects a GPU for each process, and SyncBatchNorm
    works on GPUs alone.
    """
    dist.init_process_group(backend='gloo')
    if any([without_sync_bn(cfg.model), cfg.pop('sync_bn', None)]) and \
            is_main_process():
        print('No GPU: SyncBatchNorm is trained as BatchNorm, each process '
              'with the statistics of its own images.', flush=True)
    cfg.setdefault('model_wrapper_cfg', dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False)))


@contextmanager
def leaving_process_group() -> Iterator[None]:
    """Leave the process group at the end, also after an error. For ``main``
    of each tool that a launcher starts.

    A process that ends while threads of gloo are alive is sometimes aborted,
    although its work is done. They live as long as anything holds the group:
    here a runner's model, until Python's garbage collector finds the runner.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        # After an error NCCL would wait for the other processes, which wait
        # for this one. The launcher stops them when this one has ended.
        if dist.is_available() and dist.is_initialized() and not (
                failed and dist.get_backend() == 'nccl'):
            dist.destroy_process_group()
            gc.collect()
