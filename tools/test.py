#!/usr/bin/env python
"""Test (and evaluate) a detector or a classifier."""

from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine import ConfigDict

from mmdet_scconv.cli import (
    add_config_arguments,
    build_runner,
    check_checkpoint,
    check_data,
    errors_in_one_line,
    leaving_process_group,
    load_config,
    load_data,
    load_weights,
    new_parser,
    tta_settings,
)
from mmdet_scconv.hosts import watched_hosts
from mmdet_scconv.visualization.fonts import use_font_for


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', help='dump predictions to a pickle file (.pkl)')
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window')
    parser.add_argument(
        '--show-dir',
        help='save painted pictures to WORK_DIR/TIMESTAMP/SHOW_DIR')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds for --show')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and "
        'tta_pipeline, else a horizontal flip')
    parser.add_argument(
        '--deploy',
        action='store_true',
        help="fold the backbone's BatchNorms into its convolutions: faster, "
        'same results but for rounding')
    add_config_arguments(parser)
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: the name must end in .pkl')
    return args


@errors_in_one_line()
@leaving_process_group()
def main():
    args = parse_args()
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args)
    check_data(cfg, 'test')
    checkpoint = check_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        cfg = trigger_visualization_hook(cfg, args)
    if args.tta:
        dataset = cfg.test_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        for key, value in tta_settings(dataset.pipeline).items():
            cfg.setdefault(key, value)
        dataset.pipeline = cfg.tta_pipeline
        cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    if args.deploy:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []),
                            dict(type='mmdet.DeployHook')]
    runner = build_runner(cfg)
    if checkpoint is not None:
        load_weights(runner.model, checkpoint, args.checkpoint)
    with watched_hosts(args.host_timeout):
        load_data(runner, 'test_loop')
        if args.show or args.show_dir:
            use_font_for(tuple(runner.test_dataloader.dataset.metainfo.get(
                'classes', ())))
        if args.out is not None:
            runner.test_evaluator.metrics.append(DumpDetResults(args.out))
        runner.test()


if __name__ == '__main__':
    main()
