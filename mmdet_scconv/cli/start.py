"""The start of a run: data, weights, precision, the runner."""
import copy
import os

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from ..datasets.missing import missing_files, what_to_do
from ..errors import UserError
from ..pretrained.download import is_known, local_file
from ..pretrained.reader import read_file
from ..pretrained.resume import has_checkpoints
from ..pretrained.whole import load_whole, training_of
from .processes import join_cpu_processes


def check_data(cfg: Config, *splits: str) -> None:
    """Check that the data sets are there before anything is built.

    Raises:
        UserError: If not; names what is missing and how to get it.
    """
    missing = missing_files(cfg, splits)
    if missing:
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise UserError(
            f'the data is not here: {", ".join(missing[:3])}{more} (looked '
            f'for in {os.getcwd()}). {what_to_do(missing)}')


def load_data(runner: Runner, loop: str) -> None:
    """Build a runner's loop with its data set, 'train_loop' or 'test_loop'.

    Raises:
        UserError: If a file of the data is not there; says which.
    """
    try:
        getattr(runner, loop)
    except FileNotFoundError as error:
        raise UserError(str(error)) from error


def use_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Raises:
        UserError: On a CPU.
    """
    if get_device() == 'cpu':
        raise UserError(
            'mixed precision (--amp, AmpOptimWrapper) needs a GPU: on a CPU '
            "mmcv's operators (NMS, RoIAlign) take float32 alone")
    cfg.optim_wrapper.type = 'AmpOptimWrapper'


def check_checkpoint(path: str) -> dict | None:
    """Check that a checkpoint can be loaded and holds nothing but data.

    Args:
        path (str): A file, a web address, or a name as
            ``torchvision://resnet50``.

    Returns:
        dict | None: The checkpoint; None for storage that MMEngine alone can
        read (``s3://``, ...).

    Raises:
        CheckpointError: If not; says why.
    """
    return read_file(local_file(path)) if is_known(path) else None


def load_weights(model: nn.Module, checkpoint: dict, path: str) -> None:
    """Load a checkpoint's weights, and print what was loaded.

    Args:
        model (nn.Module): Of the config.
        checkpoint (dict): Of :func:`check_checkpoint`.
        path (str): Its name.

    Raises:
        CheckpointError: If it does not fill the model; says what to do.
    """
    loaded = load_whole(model, checkpoint.get('state_dict', checkpoint), path)
    loaded.check(training_of(checkpoint))
    if is_main_process():
        print(loaded, flush=True)


def hint_at_hooks(cfg: Config) -> None:
    """Say how a training gets the hooks that protect it, if it has none."""
    names = [str(hook.get('type')) for hook in cfg.get('custom_hooks') or []]
    if not any('SCConvRuntimeHook' in name for name in names) and \
            is_main_process():
        print('This config trains without the hooks of mmdet-scconv, which '
              'protect a training. One line adds them: custom_hooks = '
              "[dict(type='mmdet.SCConvRuntimeHook')]", flush=True)


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Let a training be resumed from a checkpoint.

    CheckStartHook checks it, and finds the last good one.

    Args:
        cfg (Config): Of the training.
        checkpoint (str): A file, or 'auto': the last good one in the work
            dir. If there is none, the training starts as the config says.
    """
    cfg.resume = checkpoint != 'auto' or has_checkpoints(cfg.work_dir)
    if cfg.resume:
        cfg.load_from = None if checkpoint == 'auto' else checkpoint


def build_runner(cfg: Config) -> Runner:
    """MMEngine's runner, or the one that ``runner_type`` names.

    Raises:
        UserError: Without a GPU, if the launcher needs one.
    """
    if not torch.cuda.is_available():
        if cfg.launcher == 'pytorch':
            join_cpu_processes(cfg)
        elif cfg.launcher != 'none':
            raise UserError(
                f'--launcher {cfg.launcher} needs a GPU for each process; on '
                'CPUs: tools/dist_train.sh or dist_test.sh')
    return (RUNNERS.build(cfg)
            if 'runner_type' in cfg else Runner.from_cfg(cfg))


def tta_settings(test_pipeline: list) -> dict:
    """Test-time augmentation by a horizontal flip, for any test pipeline.

    The unflipped view comes first: evaluations that read the ground truth from
    the pipeline (VOC's) are given the boxes of the first view.

    Returns:
        dict: ``tta_model`` and ``tta_pipeline``.

    Raises:
        UserError: If the pipeline does not end in ``PackDetInputs``.
    """
    *transforms, pack = copy.deepcopy(test_pipeline)
    if pack['type'] != 'PackDetInputs':
        raise UserError(f'test pipeline ends in {pack["type"]!r}: test-time '
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
