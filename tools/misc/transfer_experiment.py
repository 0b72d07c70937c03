#!/usr/bin/env python
"""What a backbone's convolutions cost or gain where it starts from a dense
network's weights, as a detector starts from ImageNet's.

Trains a dense detector (Faster R-CNN with a ResNet-50 of a quarter of the
width, or --detector) on generated digits: the source. Its backbone goes to
other data, with a new neck and new heads, and other convolutions in its place.
Only what is said in SYSTEMS differs. --from-scratch trains the same without
the source. --whole-detector converts the dense system's result of each seed,
and evaluates it before any further training; --fine-tune trains it further.

Writes runs.csv and table.md of all that is finished in the work dir: the score
of each system over several seeds, and its paired difference to the dense one.
What is finished is not done again; several of these may run at a time.
"""
import argparse
import json
import shutil
import statistics
from collections import defaultdict
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from scipy import stats

from mmdet_scconv.atomic import write_atomically
from mmdet_scconv.datasets import make_digits
from mmdet_scconv.paper.work_dirs import last_checkpoint
from mmdet_scconv.tables import markdown_table, write_csv
from mmdet_scconv.warm_start.convert import Conversion, resnet_to_scconv

CONFIGS = Path(__file__).resolve().parent.parent.parent / 'configs'
DETECTORS = {
    'faster-rcnn': CONFIGS / 'digits/faster-rcnn_r50_fpn_6e_digits.py',
    'rtmdet': CONFIGS / 'digits/rtmdet_tiny_27e_digits.py',
    'yolox': CONFIGS / 'digits/yolox_tiny_9e_digits.py',
    'readme': CONFIGS.parent / 'README.md',
}
VOC_FORMAT = CONFIGS / '_base_/datasets/voc_format.py'
CLASSIFIER = CONFIGS / '_base_/classifier_cifar10-folders.py'
SOURCE_SEED = 1  # of the digits that the dense backbone comes from
SCORES = ('coco/bbox_mAP', 'accuracy/top1')

# Where rows are frozen as MMDetection's dense ones, BatchNorm included.
FROZEN = dict(frozen_stages=1, norm_eval=True)
LEARNS = dict(frozen_stages=-1, norm_eval=False)
SYSTEMS = {
    'dense': dict(type='ResNet', **FROZEN),
    'dense, all learns': dict(type='ResNet', **LEARNS),
    'SCConv': dict(type='SCConvResNet', **FROZEN),
    'SCConv, generated images': dict(type='SCConvResNet', **FROZEN),
    'SCConv, all learns': dict(type='SCConvResNet', **LEARNS),
    'SCConv, random': dict(
        type='SCConvResNet', swapped_init='random', **LEARNS),
    'SPConv': dict(
        type='SPConvResNet', conv2_cfg=dict(alpha=0.75), **FROZEN),
    'SlimConv': dict(
        type='SlimConvResNet', conv2_cfg=dict(k='1'), **FROZEN),
}
# The detectors with two systems. RTMDet and YOLOX freeze nothing.
SWAPPED = {
    'rtmdet': dict(type='Swapped', module=dict(type='CSPNeXt'),
                   conv=dict(type='SCConv')),
    'yolox': dict(type='Swapped', module=dict(type='CSPDarknet'),
                  conv=dict(type='SCConv')),
    'readme': dict(type='SCConvResNet'),
}
GENERATED = 'SCConv, generated images'
CONVERTED = ('SCConv', GENERATED, 'SPConv', 'SlimConv')
TRAINED, WHOLE = 'backbone transferred, trained', 'whole network converted'
SCRATCH = 'from scratch'


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--work-dir', help='default: work_dirs/transfer-DETECTOR')
    parser.add_argument(
        '--out', help='folder of the outputs (default: the work dir)')
    parser.add_argument(
        '--detector', choices=DETECTORS, default='faster-rcnn',
        help='default: faster-rcnn; the others have the systems dense and '
        "SCConv. readme: the README's config with SCConvResNet, at a quarter "
        'of its width, with its own schedule, for --voc-format')
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        '--voc-format',
        metavar='FOLDER',
        help='the data to move to, in VOC format (default: other digits)')
    data.add_argument(
        '--image-folders',
        metavar='FOLDER',
        help='the data to move to, images to classify: '
        'FOLDER/{train,test}/CLASS/NAME.jpg')
    parser.add_argument(
        '--classes', nargs='+', help="classes of --voc-format's data")
    parser.add_argument(
        '--scale', type=int, nargs=2, default=[256, 192], metavar='PIXELS',
        help="width and height of the images' frame; not for digits, which "
        'have 128 (default: 256 192)')
    parser.add_argument(
        '--systems', nargs='+', choices=SYSTEMS,
        help='default: all')
    parser.add_argument('--seeds', type=int, nargs='+', default=range(5))
    parser.add_argument('--epochs', type=int, default=3, help='default: 3')
    parser.add_argument(
        '--from-scratch', action='store_true', help='nothing is transferred')
    parser.add_argument(
        '--whole-detector',
        action='store_true',
        help='convert the dense results and evaluate them, without training')
    parser.add_argument(
        '--fine-tune',
        metavar='NAME',
        help='train what --whole-detector gave, and the dense results; the '
        "rule's name in the table, as --cfg-options sets it")
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={},
        help='settings of all systems, as of train.py')
    args = parser.parse_args()
    if args.voc_format and not args.classes:
        parser.error('--voc-format needs --classes')
    known = ['dense', 'SCConv'] if args.detector in SWAPPED else [*SYSTEMS]
    args.systems = args.systems or known
    for system in args.systems:
        if system not in known:
            parser.error(f'argument --systems: {system!r} with --detector '
                         f'{args.detector}; allowed: {", ".join(known)}')
    for option in ('image_folders', 'whole_detector', 'fine_tune'):
        if getattr(args, option) and args.detector in SWAPPED:
            parser.error(f'--{option.replace("_", "-")} is for --detector '
                         'faster-rcnn')
    if args.detector == 'readme' and not args.voc_format:
        parser.error('--detector readme needs --voc-format')
    return args


def with_data(cfg: Config, scale: list[int] | None = None,
              **settings) -> Config:
    """A config with settings for its three data sets, loaded in the process
    that trains, and with the frame that its pipelines resize images to."""
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(settings)
        for step in loader.dataset.get('pipeline', ()):
            if step['type'] == 'Resize' and scale:
                step.scale = tuple(scale)
    return cfg


def digits(root: Path, seed: int, detector: str) -> Config:
    """The dense detector's config, on generated digits."""
    folder = (root / f'digits{seed}').resolve()
    if not folder.exists():
        make_digits(str(folder), num_val=300, seed=seed)
    cfg = with_data(
        Config.fromfile(DETECTORS[detector]), data_root=f'{folder}/')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{folder}/annotations/instances_val.json'
    return cfg


def readme() -> Config:
    """The README's config, a stock one with two lines, at a quarter of the
    width; its learning rate is scaled to the size of the batch."""
    text = DETECTORS['readme'].read_text()
    section = text[text.index('## Swap the backbone'):]
    cfg = Config.fromstring(
        section.split('```python\n')[1].split('```')[0], '.py')
    cfg.model.backbone.update(type='ResNet', base_channels=16)
    cfg.model.neck.update(in_channels=[64, 128, 256, 512], out_channels=64)
    cfg.model.rpn_head.update(in_channels=64, feat_channels=64)
    cfg.model.roi_head.bbox_roi_extractor.out_channels = 64
    cfg.model.roi_head.bbox_head.update(in_channels=64, fc_out_channels=256)
    cfg.auto_scale_lr.enable = True
    return cfg


def voc_format(folder: str, classes: list[str], scale: list[int],
               detector: str) -> Config:
    cfg = (readme() if detector == 'readme' else
           Config.fromfile(DETECTORS[detector]))
    data = Config.fromfile(VOC_FORMAT)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader',
                 'val_evaluator', 'test_evaluator'):
        cfg[name] = data[name]
    with_data(cfg, scale, data_root=f'{Path(folder).resolve()}/',
              metainfo=dict(classes=tuple(classes)))
    cfg.train_dataloader.batch_size = 4
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    head = cfg.model.get('roi_head', cfg.model).bbox_head
    head.num_classes = len(classes)
    return cfg


def image_folders(folder: str, scale: list[int]) -> Config:
    """A classifier with the detector's backbone and schedule."""
    cfg = Config.fromfile(CLASSIFIER)
    detector = Config.fromfile(DETECTORS['faster-rcnn'])
    cfg.model.backbone = detector.model.backbone
    cfg.model.data_preprocessor = dict(
        type='ImgDataPreprocessor',
        mean=detector.model.data_preprocessor.mean,
        std=detector.model.data_preprocessor.std,
        bgr_to_rgb=True)
    cfg.model.num_classes = sum(
        path.is_dir() for path in Path(folder, 'train').iterdir())
    for name in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        cfg[name] = detector[name]
    with_data(cfg, data_root=f'{Path(folder).resolve()}/',
              num_classes=cfg.model.num_classes)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.pipeline.insert(
            1, dict(type='Resize', scale=tuple(scale), keep_ratio=True))
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    return cfg


def source(root: Path, detector: str) -> str:
    """Checkpoint of the dense detector that all start from."""
    detector = 'faster-rcnn' if detector == 'readme' else detector
    work_dir = root / 'source'
    if not last_checkpoint(str(work_dir)):
        cfg = digits(root, SOURCE_SEED, detector)
        cfg.randomness = dict(seed=0)
        start(cfg, work_dir).train()
    return str(Path(last_checkpoint(str(work_dir))).resolve())


def start(cfg: Config, work_dir: Path) -> Runner:
    cfg.work_dir = str(work_dir)
    # MMEngine keeps loggers and visualisers by name
    cfg.experiment_name = '-'.join(work_dir.resolve().parts[1:])
    cfg.visualizer.name = cfg.experiment_name
    return Runner.from_cfg(cfg)


class Experiment:
    """The runs on one data set, each in ROOT/KIND/DATA/SYSTEM/seedN.

    Args:
        args (Namespace): Of the command line.
        root (Path): The work dir.
    """

    def __init__(self, args, root: Path) -> None:
        self.args, self.root = args, root
        folder = args.voc_format or args.image_folders
        self.data = Path(folder).resolve().name if folder else 'digits'

    def config(self, system: str, seed: int) -> Config:
        args = self.args
        if args.voc_format:
            cfg = voc_format(
                args.voc_format, args.classes, args.scale, args.detector)
        elif args.image_folders:
            cfg = image_folders(args.image_folders, args.scale)
        else:
            cfg = digits(self.root, 0, args.detector)
        if args.detector not in SWAPPED:
            cfg.model.backbone.update(SYSTEMS[system])
        elif system != 'dense':
            cfg.model.backbone.update(SWAPPED[args.detector])
        cfg.randomness = dict(seed=seed)
        cfg.train_cfg.update(max_epochs=args.epochs, val_interval=args.epochs)
        # the dense ones are converted as a whole
        cfg.default_hooks.checkpoint = dict(
            type='CheckpointHook', save_optimizer=False,
            interval=args.epochs if system == 'dense' else -1)
        cfg.merge_from_dict(args.cfg_options)
        return cfg

    def work_dir(self, kind: str, system: str, seed: int) -> Path:
        return (self.root / kind.replace(', ', '-').replace(' ', '-')
                / self.data / system.replace(', ', '-').replace(' ', '-')
                / f'seed{seed}')

    def is_done(self, kind: str, system: str, seed: int) -> bool:
        return (self.work_dir(kind, system, seed) / 'score.json').exists()

    def keep(self, kind: str, system: str, seed: int, metric: str,
             scores: list[float]) -> None:
        """Write the scores of all validations: the run is done."""
        write_atomically(
            str(self.work_dir(kind, system, seed) / 'score.json'),
            json.dumps(dict(
                kind=kind, data=self.data, system=system, seed=seed,
                metric=metric, scores=[100 * float(s) for s in scores]
            )).encode())

    def train(self, kind: str, system: str, seed: int, cfg: Config) -> None:
        work_dir = self.work_dir(kind, system, seed)
        shutil.rmtree(work_dir, ignore_errors=True)
        runner = start(cfg, work_dir)
        runner.train()
        scalars = runner.message_hub.log_scalars
        metric = next(m for m in SCORES if f'val/{m}' in scalars)
        self.keep(kind, system, seed, metric,
                  scalars[f'val/{metric}'].data[0])

    def from_scratch(self, system: str, seed: int) -> None:
        if self.is_done(SCRATCH, system, seed):
            return
        cfg = self.config(system, seed)
        cfg.model.backbone.init_cfg = None
        self.train(SCRATCH, system, seed, cfg)

    def transfer(self, system: str, seed: int) -> None:
        """Train a detector whose backbone starts from the source's."""
        if self.is_done(TRAINED, system, seed):
            return
        checkpoint = source(self.root, self.args.detector)
        cfg = self.config(system, seed)
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
        if system == GENERATED:
            # as with a config that has no hook of this project
            cfg.custom_hooks = []
        self.train(TRAINED, system, seed, cfg)

    def convert(self, system: str, seed: int) -> None:
        """Convert the dense network of :meth:`transfer`, and evaluate it."""
        if self.is_done(WHOLE, system, seed):
            return
        work_dir = self.work_dir(WHOLE, system, seed)
        work_dir.mkdir(parents=True, exist_ok=True)
        cfg = self.config(system, seed)
        cfg.load_from = self.dense_result(seed)
        if system != 'dense':
            config, out = work_dir / 'config.py', work_dir / 'converted.pth'
            cfg.dump(config)
            resnet_to_scconv(cfg.load_from, str(out), Conversion(
                whole=True, config=str(config), size=min(self.size()),
                generated=system == GENERATED))
            cfg.load_from = str(out)
        metrics = start(cfg, work_dir).test()
        metric = next(m for m in SCORES if m in metrics)
        self.keep(WHOLE, system, seed, metric, [metrics[metric]])

    def fine_tune(self, name: str, system: str, seed: int) -> None:
        """Train the network of :meth:`convert`, or the dense one; it is
        evaluated after each epoch."""
        kind = f'{WHOLE}, trained, {name}'
        if self.is_done(kind, system, seed):
            return
        cfg = self.config(system, seed)
        cfg.train_cfg.val_interval = 1
        cfg.default_hooks.checkpoint.interval = -1
        cfg.load_from = (
            self.dense_result(seed) if system == 'dense' else
            str(self.work_dir(WHOLE, system, seed) / 'converted.pth'))
        self.train(kind, system, seed, cfg)

    def dense_result(self, seed: int) -> str:
        return last_checkpoint(str(self.work_dir(TRAINED, 'dense', seed)))

    def size(self) -> list[int]:
        others = self.args.voc_format or self.args.image_folders
        return self.args.scale if others else [128]


def interval(values: list[float]) -> str:
    """Mean and half of its 95% interval (Student's t)."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f'{mean:.1f}'
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f'{mean:.1f} ± {half:.1f}'


def write_results(root: Path, out: Path) -> str:
    """runs.csv and table.md of all that is finished; returns the table."""
    found = [json.loads(path.read_text())
             for path in sorted(root.glob('*/*/*/seed*/score.json'))]
    scores = defaultdict(dict)
    for run in found:
        scores[run['kind'], run['data'], run['system']][run['seed']] = (
            run['scores'][-1])
    rows = []
    for (kind, data, system), own in sorted(
            scores.items(), key=lambda item: (
                *item[0][:2], list(SYSTEMS).index(item[0][2]))):
        dense = scores.get((kind, data, 'dense'), {})
        both = [own[seed] - dense[seed] for seed in own if seed in dense]
        rows.append([data, kind, system, interval(list(own.values())),
                     interval(both) if both and system != 'dense' else '-',
                     len(own)])
    table = markdown_table(
        ['data', 'what', 'convolution', 'score', 'minus dense', 'seeds'],
        rows)
    columns = ['kind', 'data', 'system', 'seed', 'metric']
    write_csv(str(out / 'runs.csv'), [*columns, 'validation', 'score'],
              [[*(run[column] for column in columns), i, f'{score:.1f}']
               for run in found for i, score in enumerate(run['scores'], 1)])
    (out / 'table.md').write_text(table)
    return table


def main():
    args = parse_args()
    root = Path(args.work_dir or f'work_dirs/transfer-{args.detector}')
    out = Path(args.out or root)
    experiment = Experiment(args, root)
    for seed in args.seeds:
        for system in args.systems:
            if args.from_scratch:
                experiment.from_scratch(system, seed)
            elif not (args.whole_detector or args.fine_tune):
                experiment.transfer(system, seed)
            elif system in ('dense', *CONVERTED):
                experiment.convert(system, seed)
                if args.fine_tune:
                    experiment.fine_tune(args.fine_tune, system, seed)
        print(write_results(root, out), flush=True)


if __name__ == '__main__':
    main()
