"""What the command lines have in common."""
import argparse
import copy
import os
import os.path as osp
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import scandir
from torch import nn

from .datasets.checked import DataError
from .datasets.missing import missing_files, what_to_do
from .hosts import die_with_parent
from .pretrained.checkpoint import is_known, local_file
from .pretrained.resume import has_checkpoints
from .pretrained.safe_load import CheckpointError, load_as_data, refuse_code
from .pretrained.whole import load_whole
from .stack import check_cuda_operators

SYNC_BN = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif',
                  '.tiff', '.webp')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that MMDetection's train.py and test.py share."""
    parser.add_argument('--work-dir', help='folder for logs and results')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as key=value: lists as '
        'key="[a,b]" or key=a,b, nested ones as key="[(a,b),(c,d)]", without '
        'white space')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher')
    parser.add_argument(
        '--host-timeout',
        type=float,
        default=120,
        metavar='SECONDS',
        help='on several machines: end the run when one of them has given no '
        'sign of life for so long, and name it (default: 120; 0: never)')
    # torchrun and torch.distributed.launch spell it differently
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line, with its options merged in.

    ``work_dir``: the option, else the config's, else
    ``work_dirs/NAME_OF_CONFIG``.

    Raises:
        SystemExit: If the config cannot be read, or the launcher has not
            started this; says why.
        RuntimeError: If torch sees a GPU that mmcv has no operators for.
    """
    check_cuda_operators()
    refuse_code()
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise SystemExit('--launcher pytorch is for processes that torchrun '
                         'started: use tools/dist_train.sh or dist_test.sh')
    if args.launcher == 'pytorch':
        die_with_parent()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config_file(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs',
                                osp.splitext(osp.basename(args.config))[0])
    settle_workers(cfg)
    return cfg


def read_config_file(path: str) -> Config:
    """
    Raises:
        SystemExit: If it cannot be read; says why.
    """
    if not osp.isfile(path):
        raise SystemExit(f'no such config: {path} (looked for in '
                         f'{os.getcwd()})')
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is Python, and raises anything
        raise SystemExit(f'the config {path} cannot be read: '
                         f'{type(error).__name__}: {error}') from error


def settle_workers(cfg: Config) -> None:
    """Let ``num_workers=0`` alone load data in the main process.

    PyTorch refuses settings of workers where there are none.
    """
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader and loader.get('num_workers') == 0:
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def check_data(cfg: Config, *splits: str) -> None:
    """Check that the data sets are there before anything is built.

    Raises:
        SystemExit: If not; names what is missing and how to get it.
    """
    missing = missing_files(cfg, splits)
    if missing:
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise SystemExit(
            f'the data is not here: {", ".join(missing[:3])}{more} (looked '
            f'for in {os.getcwd()}). {what_to_do(missing)}')


@contextmanager
def data_errors_in_one_line() -> Iterator[None]:
    """Around what reads annotations: loops, evaluators and hooks do.

    Raises:
        SystemExit: If the data cannot be used; says why.
    """
    try:
        yield
    except (DataError, CheckpointError) as error:
        raise SystemExit(str(error)) from error


def load_data(runner: Runner, loop: str) -> None:
    """Build a runner's loop with its data set, 'train_loop' or 'test_loop'.

    Raises:
        SystemExit: If a file of the data is not there; says which.
    """
    try:
        getattr(runner, loop)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error


def use_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Raises:
        SystemExit: On a CPU.
    """
    if get_device() == 'cpu':
        raise SystemExit(
            'mixed precision (--amp, AmpOptimWrapper) needs a GPU: on a CPU '
            "mmcv's operators (NMS, RoIAlign) take float32 alone")
    cfg.optim_wrapper.type = 'AmpOptimWrapper'


def check_checkpoint(path: str) -> dict | None:
    """Check that a checkpoint can be loaded and holds nothing but data.
    Storage that MMEngine alone can read is left to ``refuse_code``.

    Args:
        path (str): A file, a web address, or a name as
            ``torchvision://resnet50``.

    Returns:
        dict | None: The checkpoint, None if MMEngine alone can read it.

    Raises:
        SystemExit: If not; says why.
    """
    if not is_known(path):
        return None
    try:
        return load_as_data(local_file(path))
    except (CheckpointError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


def load_weights(model: nn.Module, checkpoint: dict, path: str) -> None:
    """Load a checkpoint's weights, and print what was loaded.

    Args:
        model (nn.Module): Of the config.
        checkpoint (dict): Of :func:`check_checkpoint`.
        path (str): Its name.

    Raises:
        SystemExit: If it is not of the model; says which part does not fit.
    """
    loaded = load_whole(model, checkpoint.get('state_dict', checkpoint), path)
    try:
        loaded.check()
    except ValueError as error:
        raise SystemExit(str(error)) from None
    if is_main_process():
        print(loaded, flush=True)


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Let a training go on from a checkpoint.

    CheckStartHook checks it, and finds the last good one.

    Args:
        cfg (Config): Of the training.
        checkpoint (str): A file, or 'auto': the last good one in the work
            dir. If there is none, the training starts as the config says.
    """
    cfg.resume = checkpoint != 'auto' or has_checkpoints(cfg.work_dir)
    if cfg.resume:
        cfg.load_from = None if checkpoint == 'auto' else checkpoint


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

    A process that ends with threads of gloo alive is aborted now and then,
    although its work was done.
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


def build_runner(cfg: Config) -> Runner:
    """MMEngine's runner, or the one that ``runner_type`` names.

    Raises:
        SystemExit: Without a GPU, if the launcher needs one.
    """
    if not torch.cuda.is_available():
        if cfg.launcher == 'pytorch':
            join_cpu_processes(cfg)
        elif cfg.launcher != 'none':
            raise SystemExit(
                f'--launcher {cfg.launcher} needs a GPU for each process; on '
                'CPUs: tools/dist_train.sh or dist_test.sh')
    return (RUNNERS.build(cfg)
            if 'runner_type' in cfg else Runner.from_cfg(cfg))


def tta_settings(test_pipeline: list) -> dict:
    """Test-time augmentation by a horizontal flip, for any test pipeline.

    The unflipped view comes first: its boxes are the ones that evaluations
    which read the ground truth from the pipeline (VOC's) are given.

    Returns:
        dict: ``tta_model`` and ``tta_pipeline``.

    Raises:
        ValueError: If the pipeline does not end in ``PackDetInputs``.
    """
    *transforms, pack = copy.deepcopy(test_pipeline)
    if pack['type'] != 'PackDetInputs':
        raise ValueError(f'test pipeline ends in {pack["type"]!r}: test-time '
                         "augmentation needs 'PackDetInputs' at the end")
    meta_keys = pack.get('meta_keys', ('img_id', 'img_path', 'ori_shape',
                                       'img_shape', 'scale_factor'))
    pack['meta_keys'] = tuple(
        dict.fromkeys((*meta_keys, 'flip', 'flip_direction')))
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]
    return dict(
        tta_model=dict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
        tta_pipeline=transforms +
        [dict(type='TestTimeAug', transforms=[flips, [pack]])])


def picture_names(images: Sequence[str]) -> list[str]:
    """A file name for the picture of each image: its own, and where several
    images have the same, with the folders in which they differ before it."""
    images = [osp.abspath(path) for path in images]
    same = defaultdict(set)
    for path in images:
        same[osp.basename(path).lower()].add(path)
    names = []
    for path in images:
        others = same[osp.basename(path).lower()]
        names.append(
            osp.basename(path) if len(others) == 1 else osp.relpath(
                path, osp.commonpath([osp.dirname(p) for p in others])))
    return names


def find_images(inputs: Sequence[str]) -> list[str]:
    """All images among files and folders (not their subfolders).

    Raises:
        FileNotFoundError: If one of them does not exist, or a folder has no
            images.
    """
    images = []
    for path in inputs:
        if osp.isdir(path):
            names = sorted(
                scandir(path, suffix=IMAGE_SUFFIXES, case_sensitive=False))
            if not names:
                raise FileNotFoundError(f'no images in the folder {path}')
            images += [osp.join(path, name) for name in names]
        elif osp.isfile(path):
            images.append(path)
        else:
            raise FileNotFoundError(f'no such file or folder: {path}')
    return images
