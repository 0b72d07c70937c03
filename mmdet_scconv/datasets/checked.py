"""The common base of the checked VOC and COCO data sets.

Training, evaluation and all tools read annotations with them. Harmless
problems are repaired and logged once; any other is an error that names file,
entry and value. MMDetection's own data sets raise "no element found" for a
damaged XML file or KeyError for a JSON file without categories, train on
background alone when no class name fits, and give wrong labels when a class is
missing from a COCO file.
"""
import difflib
import os.path as osp
from collections import Counter

from mmengine.config import ConfigDict
from mmengine.fileio import exists

from .boxes import (
    CROWD,
    LARGE_SHARE,
    LARGE_SHARE_OF_CROWDS,
    NORMALISED,
    box_problem,
    is_left_out,
)
from .findings import DataError, Findings, MissingFileError, say_once
from .image_files import ImageSize, size_of, size_problem

ADVICE = {
    NORMALISED: 'multiply those by the width and height of their image',
    CROWD: 'set iscrowd or difficult to 0 where it is one object',
}


class CheckedDataset:
    """The common base of both formats.

    Attributes:
        findings (Findings): The problems of the annotations.
        unknown (Counter): Boxes by class name that is not in ``classes``.
        annotated (bool): Whether there are annotations at all.
    """

    def check_options(self) -> None:
        """
        Raises:
            DataError: If ``classes`` are no names, or there is a
                ``proposal_file``.
        """
        classes = self.metainfo.get('classes')
        if not isinstance(classes, list | tuple) or not classes or \
                not all(isinstance(name, str) for name in classes):
            raise DataError(f'metainfo classes={classes!r} is not valid: a '
                            "tuple of names, e.g. classes=('object', )")
        twice = [name for name, n in Counter(classes).items() if n > 1]
        if twice:
            raise DataError(f'metainfo classes={tuple(classes)} has '
                            f'{twice[0]!r} twice')
        if self.proposal_file is not None:
            raise DataError(
                f'proposal_file={self.proposal_file!r} is not read here: it '
                'is a pickle, which can run code of whoever made it. If you '
                'trust it, take the data set of MMDetection itself')

    def load_data_list(self) -> list[dict]:
        """The entries that can be read; problems are in ``findings``.

        Raises:
            MissingFileError: If the annotation file is missing.
            DataError: If it, or an option, cannot be used at all.
        """
        self.check_options()
        self.findings = Findings(self.ann_file)
        self.unknown = Counter()
        self.annotated = True
        if not exists(self.ann_file, backend_args=self.backend_args):
            raise MissingFileError(
                f'annotation file {self.ann_file} is missing: data_root='
                f'{self.data_root!r} and ann_file of the config say where it '
                'is looked for')
        try:
            return self.read_annotations()
        except DataError as error:
            raise DataError(f'{self.ann_file}: {error}') from error
        except OSError as error:
            raise DataError(
                f'{self.ann_file}: cannot be opened: {error}') from error

    @property
    def ignore_orientation(self) -> bool:
        """Whether the pipeline ignores the EXIF orientation of images."""
        return any(
            getattr(step, 'color_type', None) == 'color_ignore_orientation'
            for step in self.pipeline.transforms)

    def judge(self, data_list: list[dict]) -> None:
        """Find problems that single boxes do not show.

        Args:
            data_list (list): What ``load_data_list`` read.
        """
        findings, classes = self.findings, tuple(self.metainfo['classes'])
        for name, count in self.unknown.most_common():
            near = difflib.get_close_matches(
                name.casefold(), [c.casefold() for c in classes], n=1)
            near = [c for c in classes if c.casefold() in near]
            findings.warn(
                f'class {name!r} is not in metainfo classes={classes}, boxes '
                f'left out: {count}' +
                (f'. Is it {near[0]!r}?' if near else ''))
        if not data_list and not findings.refusals:
            findings.refuse('no images are listed')
        flags = [instance['ignore_flag'] for info in data_list
                 for instance in info['instances']]
        crowd, usable = sum(flags), flags.count(0)
        broken = findings.lost.total()
        total = len(flags) + broken
        lost = findings.lost + Counter({CROWD: crowd})
        reasons = ', '.join(f'{n} {reason}' for reason, n in
                            lost.most_common())
        reasons += ''.join(f'; {ADVICE[reason]}' for reason in lost
                           if reason in ADVICE)
        if usable:
            if broken >= LARGE_SHARE * total or \
                    crowd >= LARGE_SHARE_OF_CROWDS * total:
                findings.warn(
                    f'{total - usable} of {total} boxes '
                    f'({100 * (total - usable) / total:.0f}%) cannot be '
                    f'trained on: {reasons}')
        elif lost:
            findings.refuse(
                f'none of the {total} boxes can be trained on: {reasons}')
        elif self.unknown:
            findings.refuse(
                f'all boxes are of other classes: {dict(self.unknown)}. Set '
                'classes to names that the annotations have')
        elif data_list and not findings.refusals:
            text = 'has no boxes' if self.annotated else 'has no annotations'
            if self.test_mode:
                findings.note(f'{text}: predictions can be written, not '
                              'evaluated')
            else:
                findings.refuse(f'{text}: nothing can be trained on')

    def filter_data(self) -> list[dict]:
        """
        Raises:
            DataError: If anything is refused, or no image is left.
        """
        self.judge(self.data_list)
        self.findings.say()
        self.findings.raise_refused()
        images = super().filter_data()
        if not images:
            raise DataError(
                f'{self.ann_file}: no images, all {len(self.data_list)} are '
                f'left out by filter_cfg={self.filter_cfg}')
        return images

    def prepare_data(self, idx: int) -> dict | None:
        """
        Raises:
            MissingFileError: If the image is not there.
            DataError: If it cannot be read or used, or is turned against its
                annotation; names it.
        """
        info = self.get_data_info(idx)
        data = self.run_pipeline(info)
        shape = getattr((data or {}).get('data_samples'), 'ori_shape', None)
        if shape is None or tuple(shape) == (info['height'], info['width']):
            return data
        path, annotated = info['img_path'], (info['width'], info['height'])
        size = size_of(path, self.ignore_orientation) or ImageSize(
            shape[1], shape[0], tuple(shape[1::-1]), 1)
        verdict, text = size_problem(size, *annotated) or ('', '')
        if verdict == 'refused':
            raise DataError(f'image {path} {text}')
        say_once(f'{self.ann_file}: image {path} {text}')
        info = self.get_data_info(idx)
        info['height'], info['width'] = shape
        info['instances'] = [
            instance for instance in info['instances'] if not is_left_out(
                box_problem(instance['bbox'], *shape[1::-1]))
        ]
        return self.run_pipeline(info)

    def run_pipeline(self, info: dict) -> dict | None:
        path = info['img_path']
        try:
            return self.pipeline(info)
        except FileNotFoundError:
            raise MissingFileError(f'image {path} is missing; tried, in any '
                                   f'case: {self.tried(info)}') from None
        except Exception as error:
            what = ('is empty' if osp.isfile(path) and not osp.getsize(path)
                    else f'cannot be used: {error or type(error).__name__}')
            raise DataError(f'image {path} {what}') from error


def differing_classes(train: tuple, other: tuple) -> str:
    """The message for a validation on other classes than the training's."""
    return (f'has metainfo classes={other}, the training has '
            f'classes={train}: a label would stand for another name. Set one '
            'tuple in all data sets of the config')


def with_checked_types(cfg: dict) -> dict:
    """A copy of a data set's config, with checked types in place of
    MMDetection's."""
    checked = dict(CocoDataset='CheckedCocoDataset',
                   XMLDataset='CheckedXMLDataset',
                   VOCDataset='CheckedVOCDataset')
    cfg = ConfigDict(cfg)
    if cfg.get('type') in checked:
        cfg.type = checked[cfg.type]
    if 'dataset' in cfg:
        cfg.dataset = with_checked_types(cfg.dataset)
    if 'datasets' in cfg:
        cfg.datasets = [with_checked_types(part) for part in cfg.datasets]
    return cfg
