"""Checked data sets in PASCAL VOC's format."""
import os.path as osp

from mmdet.datasets import VOCDataset, XMLDataset
from mmdet.registry import DATASETS
from mmengine.fileio import exists, get

from .boxes import (
    BEYOND,
    NO_AREA,
    NORMALISED,
    OUTSIDE,
    box_problem,
    is_left_out,
)
from .checked import CheckedDataset
from .findings import DataError, Findings
from .image_files import SUFFIXES, ImageFolder, other_names, size_problem
from .voc_xml import VOC_BOX, read_image_set, read_voc, size_in


@DATASETS.register_module()
class CheckedXMLDataset(CheckedDataset, XMLDataset):
    """XMLDataset (PASCAL VOC's format) with checked annotations.

    Images may have any suffix, in any case, or the name in ``<filename>``. A
    test set without the folder of annotations has no boxes.
    """

    def read_annotations(self) -> list[dict]:
        self.cat2label = {
            name: i for i, name in enumerate(self.metainfo['classes'])
        }
        self.images = ImageFolder(
            osp.join(self.sub_data_root, self.img_subdir),
            self.ignore_orientation)
        folder = osp.join(self.sub_data_root, self.ann_subdir)
        self.annotated = not self.test_mode or exists(
            folder, backend_args=self.backend_args)
        files = ImageFolder(folder)
        names = read_image_set(
            get(self.ann_file, backend_args=self.backend_args),
            self.findings, lambda name: files.find(f'{name}.xml') is not None)
        infos = []
        for name in names:
            file = files.find(f'{name}.xml') or f'{name}.xml'
            info = self.parse_data_info(
                dict(img_id=name, xml_path=osp.join(folder, file)))
            if info is not None:
                infos.append(info)
        return infos

    def image_names(self, name: str, filename: str | None) -> list[str]:
        """Possible names of an image, most likely first."""
        names = [f'{name}{suffix}' for suffix in SUFFIXES]
        for given in other_names((filename or '').strip()):
            if given:
                names += [given, *(f'{given}{suffix}' for suffix in SUFFIXES)]
        return list(dict.fromkeys([*names, name]))

    def tried(self, info: dict) -> str:
        """Names under which an image was looked for."""
        filename = None
        if self.annotated:
            content = get(info['xml_path'], backend_args=self.backend_args)
            filename = read_voc(content, info['xml_path'],
                                Findings('')).findtext('filename')
        return ', '.join(self.image_names(info['img_id'], filename))

    def parse_data_info(self, img_info: dict) -> dict | None:
        """None if it cannot be read, or has no size."""
        path, name = img_info['xml_path'], img_info['img_id']
        root = None
        if self.annotated:
            try:
                root = read_voc(get(path, backend_args=self.backend_args),
                                path, self.findings)
            except FileNotFoundError:
                self.findings.refuse(
                    f'is missing, and {self.ann_file} lists it', path,
                    missing=True)
                return None
            except (OSError, ValueError) as error:
                self.findings.refuse(
                    str(error) if isinstance(error, DataError) else
                    f'cannot be opened: {error}', path)
                return None
        image = self.images.find(f'{name}{SUFFIXES[0]}') or \
            self.images.find_any(self.image_names(
                name, None if root is None else root.findtext('filename')))
        info = dict(
            img_id=name,
            img_path=self.images.path(image or f'{name}{SUFFIXES[0]}'),
            xml_path=path,
            instances=[])
        size = size_in(root) if root is not None else None
        if size is None:
            own = image and self.images.size(image)
            if not own:
                self.findings.refuse(
                    'has no image size, and the image is not there to be '
                    f'measured; tried, in any case: {self.tried(info)}', path)
                return None
            size = own.width, own.height
            if root is not None:
                self.findings.repair(
                    'files without an image size, that of the image file is '
                    'used',
                    f'{path}: {own.width} x {own.height}')
        info['width'], info['height'] = size
        if root is not None:
            self.add_instances(info, root, image)
        return info

    def add_instances(self, info: dict, root, image: str | None) -> None:
        nodes = [node for node in root.findall('object')]
        names = [node.findtext('name') for node in nodes]
        self.unknown.update(n for n in names if n not in self.cat2label)
        instances = self._parse_instance_info(root)
        size = info['width'], info['height']
        problems = [box_problem(instance['bbox'], *size)
                    for instance in instances]
        if not any(problems):
            info['instances'] = instances
            return
        path = info['xml_path']
        if any(BEYOND in f or OUTSIDE in f for f in problems if f) and image:
            own = self.images.size(image)
            verdict, text = own and size_problem(own, *size) or ('', '')
            if verdict == 'refused':
                self.findings.refuse(text, info['img_path'])
            elif verdict:
                self.findings.warn(text, info['img_path'])
                info['width'], info['height'] = own.width, own.height
        known = [node for node, n in zip(nodes, names) if n in self.cat2label]
        for instance, node in zip(instances, known):
            problem = box_problem(instance['bbox'], info['width'],
                                  info['height'])
            written = [float(node.find('bndbox').findtext(tag))
                       for tag in VOC_BOX]
            if problem and 0 <= min(written) and max(written) <= 1:
                shown = ', '.join(map('{:g}'.format, written))
                problem = f'box ({shown}) is {NORMALISED}, left out'
            if problem:
                self.findings.warn(problem, path)
            if is_left_out(problem):
                self.findings.lost[
                    NORMALISED if NORMALISED in problem else
                    'without area' if NO_AREA in problem else
                    'outside of their image'] += 1
            else:
                info['instances'].append(instance)


@DATASETS.register_module()
class CheckedVOCDataset(CheckedXMLDataset, VOCDataset):
    """PASCAL VOC itself: its classes, and the year for ``VOCMetric``."""
