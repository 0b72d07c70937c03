#!/usr/bin/env python
"""Train a detector or a classifier."""

from mmdet.utils import setup_cache_size_limit_of_dynamo

from mmdet_scconv.cli import (
    add_config_arguments,
    build_runner,
    check_data,
    errors_in_one_line,
    hint_at_hooks,
    leaving_process_group,
    load_config,
    load_data,
    new_parser,
    set_resume,
    use_amp,
)
from mmdet_scconv.errors import UserError
from mmdet_scconv.hosts import watched_hosts


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or without one from the last good '
        'one in the work dir')
    add_config_arguments(parser)
    return parser.parse_args()


@errors_in_one_line()
@leaving_process_group()
def main():
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args)
    hint_at_hooks(cfg)
    check_data(cfg, 'train', 'val')
    if args.amp or cfg.optim_wrapper.get('type') == 'AmpOptimWrapper':
        use_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr.'
                'base_batch_size, the batch size its learning rate is for')
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        set_resume(cfg, args.resume)
    runner = build_runner(cfg)
    with watched_hosts(args.host_timeout):
        load_data(runner, 'train_loop')
        runner.train()


if __name__ == '__main__':
    main()
