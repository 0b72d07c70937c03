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
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import scandir
from torch import nn

from .datasets.checked import DataError
from .datasets.missing import missing_files, what_to_do
from .hosts import die_with_parent
from .pretrained.checkpoint import is_known, is_url, local_file
from .pretrained.resume import check_resumable, find_resumable
from .pretrained.safe_load import CheckpointError, load_as_data, refuse_code
from .pretrained.whole import load_whole
from .stack import check_cuda_operators

# What a training should not be without, by name in default_hooks; found from
# any default scope.
TRAINING_HOOKS = dict(
    check_loss='mmdet.CheckLossHook',
    epoch_length='mmdet.EpochLengthHook',
    epoch_seed='mmdet.EpochSeedHook')

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
    except DataError as error:
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


def protect_training(cfg: Config) -> None:
    """Turn on, in any config, the hooks that a training should not be
    without: whole checkpoints, the check of the loss, seeded epochs.

    With ``randomness=dict(deterministic=True)`` the loader's workers start
    anew each epoch, so that a resumed run equals an uninterrupted one.
    A checkpoint hook other than MMEngine's stays as it is.
    """
    cfg.setdefault('default_hooks', {})
    hooks = cfg.default_hooks
    hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))
    if hooks.checkpoint is not None and \
            hooks.checkpoint.type in ('CheckpointHook', CheckpointHook):
        hooks.checkpoint.type = 'mmdet.SafeCheckpointHook'
    for name, hook in TRAINING_HOOKS.items():
        hooks.setdefault(name, dict(type=hook))
    if cfg.get('randomness', {}).get('deterministic'):
        # persistent ones draw on from epoch to epoch, fresh ones after a
        # resume from the beginning
        cfg.train_dataloader.persistent_workers = False
    # the dumped config names these hooks
    cfg.setdefault('custom_imports', dict(imports=[]))
    if __package__ not in cfg.custom_imports.imports:
        cfg.custom_imports.imports = [
            *cfg.custom_imports.imports, __package__
        ]


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
    """Let a training go on from a checkpoint, with the seed it began with.

    Args:
        cfg (Config): Of the training.
        checkpoint (str): A file, or 'auto': the last good one in the work
            dir, if there is any.

    Raises:
        SystemExit: If the file, or all of the work dir's, cannot be resumed
            from; says why.
    """
    try:
        if checkpoint == 'auto':
            checkpoint = find_resumable(cfg.work_dir)
        elif '://' not in checkpoint:
            check_resumable(checkpoint)
    except (CheckpointError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    cfg.resume = checkpoint is not None
    if not cfg.resume:
        return
    cfg.load_from = checkpoint
    if osp.isfile(checkpoint):
        data = load_as_data(checkpoint)
        # MMEngine takes it from there, too, but when the order of the images
        # is drawn already
        cfg.setdefault('randomness', {})
        if cfg.randomness.get('seed') is None:
            cfg.randomness.seed = data['meta'].get('seed')
        if os.environ.get('RANK', '0') == '0':
            for line in resume_notes(cfg, data):
                print(line, flush=True)


def resume_notes(cfg: Config, checkpoint: dict) -> Iterator[str]:
    """What a user of ``--resume`` may not expect: that there is nothing left
    to train, or that the schedule stays that of the first training."""
    known = checkpoint['message_hub'].get('runtime_info', {})
    for key, unit in (('max_epochs', 'epoch'), ('max_iters', 'iter')):
        wanted = cfg.train_cfg.get(key)
        done = checkpoint['meta'].get(unit, 0)
        if wanted is None:
            continue
        if done >= wanted:
            yield (f'{cfg.load_from} is of {unit} {done} of {wanted}: nothing '
                   'is left to train. For more: --cfg-options '
                   f'train_cfg.{key}=N')
        elif wanted != known.get(key, wanted) and cfg.get('param_scheduler'):
            yield (f'{cfg.load_from} is of a training with {key}='
                   f'{known[key]}, this one has {wanted}: the learning rate '
                   'goes on by the schedule as it was saved. For a schedule '
                   f'of {wanted} start anew from its weights: --cfg-options '
                   f'load_from={cfg.load_from}, another --work-dir, no '
                   '--resume')


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
    runner = (RUNNERS.build(cfg)
              if 'runner_type' in cfg else Runner.from_cfg(cfg))
    load_from = getattr(runner, '_load_from', None)
    if load_from and is_url(load_from):
        # MMEngine would take any file that has the last part of it as name
        runner._load_from = local_file(load_from)
    return runner


def check_same_start(cfg: Config) -> None:
    """Check that all processes go on from the same checkpoint.

    Raises:
        SystemExit: If not, as where each host has a work dir of its own.
    """
    name = osp.basename(cfg.load_from) if cfg.get('resume') else None
    names = all_gather_object(name)
    if len(set(names)) > 1:
        raise SystemExit(
            f'--resume finds {names[0] or "no checkpoint"} on the first host '
            f'and {next(n for n in names if n != names[0]) or "none"} on '
            f'another: {cfg.work_dir} must be the same folder on all hosts, '
            'or a copy of it')


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
