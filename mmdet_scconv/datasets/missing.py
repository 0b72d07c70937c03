"""Which of a config's files are missing, and how to get them."""
import os
import os.path as osp
from collections.abc import Iterator

PREPARE = 'python tools/misc/prepare_data.py'
CONVERTERS = 'python tools/dataset_converters'
# by the folder in data/
BRINGS = {
    'coco': f'{PREPARE} coco',
    'VOCdevkit': f'{PREPARE} voc',
    'digits': f'{CONVERTERS}/make_digits.py',
    'digit_folders': f'{CONVERTERS}/make_digit_folders.py',
}


def innermost(dataset: dict) -> Iterator[dict]:
    """The data sets inside RepeatDataset, ConcatDataset and the like."""
    if not isinstance(dataset, dict):  # built already
        return
    inner = [*dataset.get('datasets', ())]
    if 'dataset' in dataset:
        inner.append(dataset['dataset'])
    if not inner:
        yield dataset
    for part in inner:
        yield from innermost(part)


def files_of(dataset: dict) -> Iterator[str]:
    """Annotation file and image folders of a data set's config, joined as
    MMEngine does. Storage other than local files has none."""
    if dataset.get('backend_args') is not None:
        return
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    prefixes = list(prefix.values()) if isinstance(prefix, dict) else [prefix]
    if isinstance(prefix, dict) and 'sub_data_root' in prefix:  # VOC's
        voc = prefix['sub_data_root']
        prefixes += [
            osp.join(voc, dataset.get('img_subdir', 'JPEGImages')),
            osp.join(voc, dataset.get('ann_subdir', 'Annotations'))
        ]
    for name in (dataset.get('ann_file'), *prefixes):
        if isinstance(name, str) and name:
            yield osp.join(root, name)
    if root:
        yield root


def missing_files(cfg, splits: tuple[str, ...]) -> list[str]:
    """Missing files and folders that the data sets and evaluators of a config
    name.

    Args:
        cfg (Config): The config.
        splits (tuple): Of 'train', 'val' and 'test'.

    Returns:
        list: Paths, each once, without what lies in a missing folder.
    """
    paths = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for dataset in innermost(loader.get('dataset') or {}):
            paths += files_of(dataset)
        evaluators = cfg.get(f'{split}_evaluator') or []
        if isinstance(evaluators, dict):
            evaluators = [evaluators]
        paths += [e['ann_file'] for e in evaluators
                  if isinstance(e, dict) and e.get('ann_file')
                  and not e.get('backend_args')]
    missing = sorted({
        osp.normpath(path) for path in paths
        if '://' not in path and not osp.exists(path)
    })
    return [
        path for path in missing
        if not any(path.startswith(f'{other}{os.sep}') for other in missing)
    ]


def what_to_do(missing: list[str]) -> str:
    """The command that downloads the files, if one is known."""
    parts = {part for path in missing for part in path.split(os.sep)}
    commands = [command for name, command in BRINGS.items() if name in parts]
    here = ('If it is elsewhere, run this from the folder that data/ is in, '
            "or set the config's data_root")
    return f'Get it with: {"; ".join(commands)}. {here}' if commands else here
