"""Options that the command lines share, and the config that results."""
import argparse
import os
import os.path as osp
from collections.abc import Callable

from mmengine.config import Config, DictAction

from ..config import read_config_file
from ..errors import UserError
from ..hosts import die_with_parent
from ..stack import check_cuda_operators


def new_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help starts with the docstring of the tool."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of an option: an int of at least ``minimum``."""

    def number(text: str) -> int:
        if int(text) < minimum:
            raise argparse.ArgumentTypeError(
                f'{text} is not valid: a number >= {minimum}')
        return int(text)

    return number


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, MMDetection's way to change a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as key=value: lists as '
        'key="[a,b]" or key=a,b, nested ones as key="[(a,b),(c,d)]", without '
        'white space')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that MMDetection's train.py and test.py share."""
    parser.add_argument('--work-dir', help='folder for logs and results')
    add_cfg_options(parser)
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
    ``work_dirs/NAME_OF_CONFIG``. As MMDetection's tools do, it sets
    ``LOCAL_RANK`` where the launcher has not.

    Raises:
        UserError: If the config cannot be read, or the launcher has not
            started this process.
        RuntimeError: If torch sees a GPU that mmcv has no operators for.
    """
    check_cuda_operators()
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError('--launcher pytorch is for processes that torchrun '
                        'started: use tools/dist_train.sh or dist_test.sh')
    if args.launcher == 'pytorch':
        die_with_parent()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config_file(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs',
                                osp.splitext(osp.basename(args.config))[0])
    allow_no_workers(cfg)
    return cfg


def allow_no_workers(cfg: Config) -> None:
    """Let ``num_workers=0`` load data in the main process without further
    options.

    PyTorch rejects settings of workers where there are none.
    """
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader and loader.get('num_workers') == 0:
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
