"""Checks every annotation and image of a config's data before a training."""
import os
import os.path as osp
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from mmdet.registry import DATASETS
from rich.progress import track

from .boxes import box_problem, is_left_out
from .checked import CheckedDataset, differing_classes, with_checked_types
from .findings import DataError, Finding
from .image_files import MISSING, OWN_SIZE, image_problem, size_of

SPLITS = ('train', 'val', 'test')


def parts_of(cfg: dict) -> Iterator[dict]:
    """The configs of data sets inside RepeatDataset, ConcatDataset and the
    like."""
    inner = cfg.get('datasets') or [
        cfg['dataset']] if 'datasets' in cfg or 'dataset' in cfg else []
    if not inner:
        yield cfg
    for part in inner:
        yield from parts_of(part)


def build_part(cfg: dict):
    """Build a data set; a checked one has read nothing yet."""
    cfg = with_checked_types(cfg)
    if issubclass(DATASETS.get(cfg['type']), CheckedDataset):
        cfg['lazy_init'] = True
    return DATASETS.build(cfg)


def find_problems(cfg: dict) -> Iterator[Finding]:
    """Find all problems of a data set, those of the annotations first.

    Args:
        cfg (dict): Of a data set of MMDetection or of this package. Types of
            other formats than VOC's and COCO's are built, and checked as far
            as possible.

    Returns:
        int: Number of images.
    """
    images = 0
    for part in parts_of(cfg):
        dataset = build_part(part)
        if isinstance(dataset, CheckedDataset):
            infos = yield from annotation_problems(dataset)
        else:
            infos = [dataset.get_data_info(i) for i in range(len(dataset))]
            for info in infos:
                for instance in info.get('instances', ()):
                    problem = box_problem(instance['bbox'], info['width'],
                                          info['height'])
                    if problem:
                        yield Finding('warning', info['img_path'], problem)
        yield from image_problems(dataset, infos)
        images += len(infos)
    return images


def annotation_problems(dataset: CheckedDataset) -> Iterator[Finding]:
    """
    Returns:
        list: Infos of the images that could be read.
    """
    infos = []
    try:
        infos = dataset.load_data_list()
        dataset.judge(infos)
    except DataError as error:
        yield Finding('refused', dataset.ann_file, str(error).removeprefix(
            f'{dataset.ann_file}: '))
    yield from getattr(dataset, 'findings', ())
    return infos


def image_problems(dataset, infos: list[dict]) -> Iterator[Finding]:
    ignore_orientation = getattr(dataset, 'ignore_orientation', False)
    checked = isinstance(dataset, CheckedDataset)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(
            lambda info: image_problem(info['img_path'], info['width'],
                                       info['height'], ignore_orientation),
            infos)
        for info, problem in track(
                zip(infos, problems), 'images', total=len(infos)):
            if problem:
                verdict, text = problem
                if text == MISSING and checked:
                    text += f'; tried, in any case: {dataset.tried(info)}'
                elif checked and text.endswith(OWN_SIZE):
                    text += boxes_outside(dataset, info)
                yield Finding(verdict, info['img_path'], text)


def boxes_outside(dataset, info: dict) -> str:
    """How many boxes of an image lie outside its real size."""
    size = size_of(info['img_path'], dataset.ignore_orientation)
    lost = sum(
        is_left_out(box_problem(instance['bbox'], size.width, size.height))
        for instance in info['instances'])
    return f', {lost} of its {len(info["instances"])} boxes lie outside'


def problems_between(cfg: dict) -> Iterator[tuple[str, Finding]]:
    """Find contradictions between the splits of a config; yields the split,
    too.

    Args:
        cfg (dict): With ``train_dataloader``, ``val_evaluator`` and so on.
    """
    parts = {
        split: [build_part(part)
                for part in parts_of(cfg[f'{split}_dataloader']['dataset'])]
        for split in SPLITS if cfg.get(f'{split}_dataloader')
    }
    classes = {
        split: tuple(datasets[0].metainfo.get('classes') or ())
        for split, datasets in parts.items()
    }
    for split in ('val', 'test'):
        if 'train' in classes and split in classes and \
                classes[split] != classes['train']:
            yield split, Finding(
                'refused', parts[split][0].ann_file,
                differing_classes(classes['train'], classes[split]))
        metrics = cfg.get(f'{split}_evaluator') or []
        for metric in metrics if isinstance(metrics, list) else [metrics]:
            file = metric.get('ann_file')
            read = [osp.abspath(d.ann_file) for d in parts.get(split, ())]
            if file and read and osp.abspath(file) not in read:
                yield split, Finding(
                    'warning', file,
                    f'is the ann_file of {split}_evaluator, and {split}_'
                    f'dataloader reads {parts[split][0].ann_file}')
