"""What the command lines have in common."""
import argparse
import copy
import os
import os.path as osp
from collections import defaultdict
from collections.abc import Sequence

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import scandir
from torch import nn

from .stack import check_cuda_operators
from .weights.checkpoint import is_known, is_url, local_file
from .weights.resume import check_resumable, find_resumable
from .weights.safe_load import CheckpointError, load_as_data, refuse_code
from .weights.whole import load_whole

# What a training should not be without, by name in default_hooks.
TRAINING_HOOKS = dict(
    check_loss='CheckLossHook', epoch_seed='EpochSeedHook')

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
    # torchrun and torch.distributed.launch spell it differently
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line, with its options merged in.

    ``work_dir``: the option, else the config's, else
    ``work_dirs/NAME_OF_CONFIG``.

    Raises:
        FileNotFoundError: If the config does not exist.
        RuntimeError: If torch sees a GPU that mmcv has no operators for.
    """
    check_cuda_operators()
    refuse_code()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs',
                                osp.splitext(osp.basename(args.config))[0])
    return cfg


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
        hooks.checkpoint.type = 'SafeCheckpointHook'
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
    """Let a training go on from a checkpoint.

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
    if cfg.resume:
        cfg.load_from = checkpoint


def join_cpu_processes(cfg: Config) -> None:
    """Let the processes of torchrun train on the CPU, over gloo.

    MMEngine's own set-up selects a GPU for each process.
    """
    torch.distributed.init_process_group(backend='gloo')
    cfg.setdefault('model_wrapper_cfg', dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False)))


def build_runner(cfg: Config) -> Runner:
    """MMEngine's runner, or the one that ``runner_type`` names."""
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        join_cpu_processes(cfg)
    runner = (RUNNERS.build(cfg)
              if 'runner_type' in cfg else Runner.from_cfg(cfg))
    load_from = getattr(runner, '_load_from', None)
    if load_from and is_url(load_from):
        # MMEngine would take any file that has the last part of it as name
        runner._load_from = local_file(load_from)
    return runner


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
