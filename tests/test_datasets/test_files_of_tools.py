"""Annotation files as labelling tools write them: each kind in training,
evaluation and the check, in VOC's and COCO's format where both have it."""
import copy
import json
import logging
import re

import cv2
import numpy as np
import pytest
import torch
import two_images
from conftest import BOXES, IMAGE_SIZE, REPO
from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from PIL import Image

from mmdet_scconv.datasets import voc_to_coco
from mmdet_scconv.datasets.check import (
    find_problems,
    parts_of,
    problems_between,
)
from mmdet_scconv.datasets.checked import with_checked_types
from mmdet_scconv.datasets.findings import DataError, read_flag
from mmdet_scconv.visualization.predictions import read_predictions

HEIGHT, WIDTH = IMAGE_SIZE
# fixtures
data, voc, coco = two_images.data, two_images.voc, two_images.coco


@pytest.fixture
def said(caplog):
    """Lines that MMEngine's current logger shows."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.removeHandler(caplog.handler)


def found(data, verdict, **options):
    return [finding.text for finding in data.findings(**options)
            if finding.verdict == verdict]


def change(**changes):
    """Of every annotation; None deletes."""

    def edit(content):
        for ann in content['annotations']:
            for key, value in changes.items():
                if value is None:
                    del ann[key]
                else:
                    ann[key] = value

    return edit


def first(key='annotations', **changes):
    return lambda content: content[key][0].update(changes)


def evaluate(data, perfect=True, metrics=None, **options):
    """Scores of detections that are the annotated boxes, or none."""
    dataset = data.build(test=True, **options)
    evaluator = Evaluator(metrics or data.evaluator())
    evaluator.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        truth = [instance for instance in dataset.get_data_info(i)['instances']
                 if not instance['ignore_flag'] and perfect]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([t['bbox'] for t in truth]).reshape(-1, 4)
            .float(),
            labels=torch.tensor([t['bbox_label'] for t in truth]).long(),
            scores=torch.ones(len(truth)))
        evaluator.process([sample])
    return evaluator.evaluate(len(dataset))


def assert_trains_and_scores(data, boxes=4):
    """All boxes are trained on, and perfect detections have AP 1."""
    dataset = data.build()
    assert sum(len(dataset[i]['data_samples'].gt_instances)
               for i in range(len(dataset))) == boxes
    scores = evaluate(data)
    assert scores['coco/bbox_mAP'] == 1
    assert scores.get('pascal_voc/mAP', 1) == 1


# fields that tools leave out, or write in another way


@pytest.mark.parametrize('edit,what', [
    (change(iscrowd=None), 'iscrowd missing: 4'),
    (change(iscrowd=False), 'iscrowd not written as 0 or 1: 4'),
    (change(iscrowd='0'), 'iscrowd not written as 0 or 1: 4'),
    (first(iscrowd=None), 'iscrowd missing: 1'),
    (change(area=None), 'area missing: 4'),
    (first(area=None), 'area missing: 1'),
    (change(area='n/a'), 'area that is not a number: 4'),
    (change(area=0), 'area that is not a number: 4'),
    (first(area=float('nan')), 'area that is not a number: 1'),
    (change(ignore='0'), 'ignore not written as 0 or 1: 4'),
    (first('images', width=80., height=60.), 'as whole numbers: 1'),
    (first('images', width='80', height='60'), 'as whole numbers: 1'),
    (first('images', width=0, height=0), 'that of the image file is used: 1'),
    (lambda c: c['images'][0].pop('width'),
     'that of the image file is used: 1'),
    (first(bbox=['5', '10', '35', '40']), 'bbox of text, read as numbers: 1'),
    (first(bbox=None, segmentation=[[5, 10, 40, 10, 40, 50, 5, 50]]),
     'that of the segmentation is used: 1'),
    (first(bbox=[], segmentation=dict(
        size=[60, 80], counts=[5 * 60 + 10] + [40, 20] * 34 + [
            40, 40 * 60 + 10])), 'that of the segmentation is used: 1'),
    (lambda c: [ann.update(id=i) for i, ann in enumerate(c['annotations'])],
     'of 0 or less, which evaluation takes for "no match", numbered anew: 1'),
    (first(id='a7'), 'ids missing or not a number, numbered anew: 1'),
    (lambda c: c['annotations'][0].pop('id'), 'missing or not a number'),
    (first(id=2), 'annotation ids used twice, numbered anew: 1'),
    (lambda c: c['annotations'].append(c['annotations'][0]),
     'duplicate annotations, read once: 1'),
    (lambda c: [ann.update(image_id=str(ann['image_id']))
                for ann in c['annotations']], 'read as numbers: 4'),
    (lambda c: [image.update(id=str(image['id'])) for image in c['images']],
     'read as numbers: 2'),
    (change(category_id='1'), 'read as numbers: 4'),
    (lambda c: c['categories'].insert(0, dict(id=9, name='object')),
     'categories without a box, with the name of another one'),
])
def test_coco_repaired(coco, said, edit, what):
    coco.edit_json(edit)
    repaired, = found(coco, 'repaired')
    assert what in repaired
    assert not found(coco, 'warning') and not found(coco, 'refused')
    said().clear()
    assert_trains_and_scores(coco)
    # training, test and evaluator read the same file: said once
    lines = [line for line in said() if what in line]
    assert len(lines) == 1 and str(coco.ann_file) in lines[0]


def test_consistent_text_ids_are_kept(coco):
    def edit(content):
        for image in content['images']:
            image['id'] = f'img_{image["id"]}'
        for ann in content['annotations']:
            ann['image_id'] = f'img_{ann["image_id"]}'

    coco.edit_json(edit)
    assert coco.findings() == []
    assert_trains_and_scores(coco)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_json_in_another_encoding(coco, encoding):
    coco.ann_file.write_text(coco.ann_file.read_text(), encoding=encoding)
    assert coco.findings() == []
    assert_trains_and_scores(coco)


@pytest.mark.parametrize('text,flag', [
    ('Unspecified', 0), ('', 0), ('no', 0), ('false', 0), ('0.0', 0),
    ('nan', 0), ('true', 1), ('True', 1), ('yes', 1), ('1.0', 1), (None, 0),
    (True, 1), (2, 1)
])
def test_read_flag(text, flag):
    assert read_flag(text) == flag


@pytest.mark.parametrize('difficult', ['Unspecified', '', 'no', 'False'])
def test_difficult_that_is_not_a_number(voc, difficult):
    voc.edit_xml({'<difficult>0<': f'<difficult>{difficult}<'})
    repaired, = found(voc, 'repaired')
    assert 'difficult not written as 0 or 1: 1' in repaired
    assert 'a.xml: object 1 (object)' in repaired
    assert voc.warnings() == []
    assert_trains_and_scores(voc)


def test_difficult_true(voc):
    voc.edit_xml({'<difficult>0<': '<difficult>true<'})
    assert 'read as 1' in found(voc, 'repaired')[0]
    assert_trains_and_scores(voc, boxes=3)
    counts = voc_to_coco(str(voc.root), ['ImageSets/Main/train.txt'],
                         str(voc.root / 'out.json'), ['object'])
    assert counts['difficult'] == 3


def test_voc_without_difficult(voc):
    """As VOC itself has it."""
    voc.edit_xml({'<difficult>0</difficult>': ''})
    assert voc.findings() == []
    assert_trains_and_scores(voc)


@pytest.mark.parametrize('size', [
    '', '<size/>', '<size><width>0</width><height>0</height></size>',
    '<size><width></width><height></height></size>',
    '<size><width>Unspecified</width><height>-1</height></size>'
])
def test_voc_without_a_size(voc, size):
    path = voc.root / 'Annotations/a.xml'
    path.write_text(re.sub('<size>.*</size>', size, path.read_text()))
    repaired, = found(voc, 'repaired')
    assert 'that of the image file is used: 1' in repaired
    assert voc.build().get_data_info(0)['width'] == WIDTH
    assert_trains_and_scores(voc)
    voc.image.unlink()
    with pytest.raises(DataError, match='a.xml: has no image size'):
        voc.build()


def test_float_boxes(voc):
    voc.edit_xml({'<xmin>5<': '<xmin>5.35<', '<ymax>50<': '<ymax>50.9<'})
    assert voc.findings() == []
    assert_trains_and_scores(voc)


# nothing that can be trained on


def spoil(data, how, share=1.):
    """Make this share of the boxes unusable for training."""
    if data.name == 'coco':
        def edit(content):
            anns = content['annotations']
            for ann in anns[:round(share * len(anns))]:
                ann.update(dict(iscrowd=1) if how == 'crowd' else
                           dict(bbox=[.1, .1, .5, .5]))
        data.edit_json(edit)
        return
    for path in sorted((data.root / 'Annotations').iterdir())[
            :round(share * 2)]:
        text = path.read_text()
        if how == 'crowd':
            text = text.replace('<difficult>0<', '<difficult>1<')
        else:
            text = re.sub('<bndbox>.*?</bndbox>', '<bndbox><xmin>0.1</xmin>'
                          '<ymin>0.1</ymin><xmax>0.5</xmax><ymax>0.6</ymax>'
                          '</bndbox>', text)
        path.write_text(text)


@pytest.mark.parametrize('how,reason', [
    ('crowd', r'none of the \d boxes can be trained on: \d crowd'),
    ('normalised', r'none of the \d boxes can be trained on: \d between 0 and '
     '1, not in pixels; multiply'),
])
@pytest.mark.parametrize('test', [False, True])
def test_nothing_to_train_on(data, how, reason, test):
    spoil(data, how)
    with pytest.raises(DataError, match=reason):
        data.build(test)
    assert any(re.search(reason, text)
               for text in found(data, 'refused', test=test))


@pytest.mark.parametrize('how', ['crowd', 'normalised'])
def test_little_to_train_on(data, how):
    spoil(data, how, 0.5)
    data.build()
    assert any(re.search(r'\d of \d boxes \(\d+%\) cannot be trained on', text)
               for text in found(data, 'warning'))


def test_boxes_as_corners(coco):
    def edit(content):
        for ann in content['annotations']:
            x, y, width, height = ann['bbox']
            ann['bbox'] = [x, y, x + width, y + height]

    coco.edit_json(edit)
    with pytest.raises(DataError, match='all fit as x1, y1, x2, y2'):
        coco.build()


# the same thing twice


@pytest.mark.parametrize('edit,message', [
    (first('images', id=1), r'images\[1\] \(images_1.jpg\) has the id 1, as '
     r'has images\[0\] \(images_0.jpg\)'),
    (first('images', file_name='images_1.jpg'),
     r'images\[1\].*has the file_name .*as has images\[0\]'),
    (lambda c: c['categories'].append(dict(id=1, name='cat')),
     r'categories\[1\] .*has the id 1, as has categories\[0\]'),
])
def test_coco_twice(coco, edit, message):
    coco.edit_json(edit)
    with pytest.raises(DataError, match=message):
        coco.build()
    with pytest.raises(DataError, match=message):
        Evaluator(coco.evaluator())
    assert any(re.search(message, text) for text in found(coco, 'refused'))


def test_two_categories_of_one_name(coco):
    def edit(content):
        content['categories'].append(dict(id=2, name='object'))
        content['annotations'][0]['category_id'] = 2

    coco.edit_json(edit)
    with pytest.raises(DataError, match=r"the name 'object', as has categorie"
                       r's\[0\].*both have boxes'):
        coco.build()


def test_voc_image_listed_twice(voc):
    voc.ann_file.write_text('a\nb\na\n')
    assert "'a' in lines 1 and 3" in found(voc, 'repaired')[0]
    assert len(voc.build()) == 2
    assert_trains_and_scores(voc)


# classes


CAT_DOG = [dict(id=1, name='cat'), dict(id=2, name='dog')]


def test_classes_are_mapped_by_name(coco):
    """Whatever order the file has, and with a root class of an export."""
    def edit(content):
        content['categories'] = [dict(id=0, name='pets'), *CAT_DOG[::-1]]
        content['annotations'][1]['category_id'] = 2

    coco.edit_json(edit)
    for classes in (('cat', 'dog'), ('dog', 'cat')):
        metainfo = dict(classes=classes)
        labels = coco.build(metainfo=metainfo)[0][
            'data_samples'].gt_instances.labels.tolist()
        assert labels == [classes.index('cat'), classes.index('dog')]
        scores = evaluate(coco, metainfo=metainfo)
        assert scores['coco/bbox_mAP'] == 1


def test_scores_and_files_by_class(coco):
    """Class by class, and with the file's ids in what is dumped."""
    def edit(content):
        content['categories'] = CAT_DOG
        content['annotations'][1]['category_id'] = 2
        content['annotations'][3].update(category_id=2, iscrowd=1)

    coco.edit_json(edit)
    metrics = [dict(coco.evaluator()[0], classwise=True,
                    outfile_prefix=str(coco.root / 'out'))]
    dataset = coco.build(test=True, metainfo=dict(classes=('dog', 'cat')))
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = dataset.metainfo
    for i in range(2):  # the cats alone are found
        sample = dataset[i]['data_samples']
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([BOXES[0]]).float(),
            labels=torch.tensor([1]), scores=torch.ones(1))
        evaluator.process([sample])
    scores = evaluator.evaluate(2)
    assert (scores['coco/cat_precision'], scores['coco/dog_precision']) == \
        (1, 0)
    dumped = json.loads((coco.root / 'out.bbox.json').read_text())
    assert {d['category_id'] for d in dumped} == {1}


def test_train_and_val_have_other_classes(coco):
    coco.edit_json(lambda content: content.update(categories=CAT_DOG))
    cfg = coco.cfg
    cfg.train_dataloader.dataset = dict(
        coco.train, metainfo=dict(classes=('cat', 'dog')))
    cfg.val_dataloader.dataset = dict(
        coco.test, metainfo=dict(classes=('dog', 'cat')))
    finding = next(finding for split, finding in problems_between(cfg)
                   if split == 'val' and finding.verdict == 'refused')
    message = r"\('dog', 'cat'\), the training has classes=\('cat', 'dog'\)"
    assert re.search(message, finding.text)
    hook = HOOKS.build(cfg.default_hooks.num_classes)

    class Loader:
        def __init__(self, cfg):
            self.dataset = coco.build(metainfo=cfg['metainfo'])

    class Runner:
        val_loop = True
        train_dataloader = Loader(cfg.train_dataloader.dataset)
        val_dataloader = Loader(cfg.val_dataloader.dataset)

    with pytest.raises(DataError, match=message):
        hook.before_train(Runner)
    Runner.val_dataloader = Runner.train_dataloader
    hook.before_train(Runner)


def test_evaluator_reads_another_file(coco):
    cfg = coco.cfg
    cfg.val_dataloader.dataset = coco.test
    cfg.val_evaluator.ann_file = str(coco.root / 'annotations/other.json')
    texts = [finding.text for split, finding in problems_between(cfg)
             if split == 'val']
    assert 'is the ann_file of val_evaluator' in texts[0]


@pytest.mark.parametrize('name,boxes', [
    (' object ', 4), ('\n object\n', 4), ('objekt', 3), ('Object', 3)
])
def test_name_with_white_space_or_a_typing_error(voc, name, boxes):
    """White space is removed; a typing error is left to the user."""
    voc.edit_xml({'<name>object</name>': f'<name>{name}</name>'})
    problem, = voc.warnings()
    assert repr(name) in problem
    assert 'read as' in problem if boxes == 4 else "Is it 'object'?" in problem
    assert_trains_and_scores(voc, boxes)


@pytest.mark.parametrize('name,message', [
    ('object ', "name='object ', read as 'object'"),
    ('Object', r"no categories \['object'\]"),
])
def test_category_with_white_space_or_a_typing_error(coco, name, message):
    coco.edit_json(first('categories', name=name))
    problem, = coco.warnings()
    assert re.search(message, problem)
    if name == 'object ':
        assert_trains_and_scores(coco)


# what cannot be read as a box


@pytest.mark.parametrize('box', [
    None, [], [1, 2, 3], 'box', {}, [1, 2, None, 4], [1, 2, 'x', 4]
])
def test_coco_bbox_that_is_not_four_numbers(coco, box):
    coco.edit_json(first(bbox=box))
    message = re.escape(f'annotations[0] (id 1) has bbox={box}, which is not')
    with pytest.raises(DataError, match=f'train.json: {message}'):
        coco.build()
    with pytest.raises(DataError, match=message):
        Evaluator(coco.evaluator())


def test_coco_rotated(coco):
    coco.edit_json(first(bbox=[5, 10, 35, 40, 15.]))
    with pytest.raises(DataError, match='five numbers: rotated boxes'):
        coco.build()


ROBNDBOX = ('<type>robndbox</type><name>object</name><robndbox><cx>20</cx>'
            '<cy>30</cy><w>9.9</w><h>20.1</h><angle>0.16</angle></robndbox>')


def test_all_files_with_rotated_boxes_are_listed(voc):
    for name in 'ab':
        path = voc.root / f'Annotations/{name}.xml'
        path.write_text(path.read_text().replace(
            '</annotation>', f'<object>{ROBNDBOX}</object></annotation>'))
    files = [finding.file for finding in voc.findings()
             if 'rotated box (robndbox)' in finding.text]
    assert [file[-5:] for file in files] == ['a.xml', 'b.xml']
    with pytest.raises(DataError, match='robndbox.*also refused: 1'):
        voc.build()


@pytest.mark.parametrize('degrees,problems', [('15.0', 1), ('0.0', 0),
                                           ('360', 0)])
def test_rotation_as_an_attribute(data, degrees, problems):
    """It is trained on; that the box was turned is said."""
    if data.name == 'coco':
        data.edit_json(first(attributes=dict(rotation=float(degrees))))
    else:
        data.edit_xml({'</object>': '<attributes><attribute><name>rotation'
                       f'</name><value>{degrees}</value></attribute>'
                       '</attributes></object>'})
    assert [('turned by 15 degrees' in text) for text in data.warnings()] == \
        [True] * problems
    assert_trains_and_scores(data)


@pytest.mark.parametrize('old,new,message', [
    ('<bndbox>.*?</bndbox>', '', r'object 1 \(object\) has no bndbox'),
    ('<bndbox>.*?</bndbox>', '<polygon><x1>1</x1></polygon>',
     r'object 1 \(object\) has no bndbox, only <polygon>'),
    ('(?s).*', '', 'is empty'),
    ('(?s).*', '<annotations><image/></annotations>',
     'has the root <annotations>'),
])
def test_a_file_that_is_not_voc(voc, old, new, message):
    path = voc.root / 'Annotations/a.xml'
    path.write_text(re.sub(old, new, path.read_text(), count=1))
    with pytest.raises(DataError, match=f'a.xml: {message}'):
        voc.build()


# text


def with_declaration(text, encoding):
    return f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(
        encoding)


@pytest.mark.parametrize('encoding', ['gb2312', 'GBK', 'big5', 'shift_jis',
                                      'utf-16', 'utf-8'])
def test_xml_in_a_declared_encoding(voc, encoding):
    for path in (voc.root / 'Annotations').iterdir():
        path.write_bytes(with_declaration(
            path.read_text().replace('object</name>', '人</name>'), encoding))
    voc.train.metainfo = voc.test.metainfo = dict(classes=('人', ))
    assert voc.findings() == []
    assert_trains_and_scores(voc)


def test_latin_1_as_declared(voc):
    voc.edit_xml({'<annotation>': '<annotation><folder>Prüfung</folder>'})
    path = voc.root / 'Annotations/a.xml'
    text = path.read_text()
    path.write_bytes(with_declaration(text, 'iso-8859-1'))
    assert_trains_and_scores(voc)
    path.write_bytes(text.encode('iso-8859-1'))
    with pytest.raises(DataError, match='a.xml: .*another encoding'):
        voc.build()


def test_namespace_and_doctype(voc):
    voc.edit_xml({'<annotation>': '<!DOCTYPE annotation SYSTEM "a.dtd">'
                  '<annotation xmlns="http://example.org/voc">'})
    assert voc.findings() == []
    assert_trains_and_scores(voc)


@pytest.mark.parametrize('content', [
    b'\xef\xbb\xbfa\r\nb\r\n', b'a\nb\n\n', b'\n  a\nb', b'a\rb\r',
    'a\r\nb'.encode('utf-16')
])
def test_image_set_of_an_editor(voc, content):
    voc.ann_file.write_bytes(content)
    assert voc.findings() == []
    assert [voc.build().get_data_info(i)['img_id'] for i in (0, 1)] == \
        ['a', 'b']
    assert_trains_and_scores(voc)


@pytest.mark.parametrize('lines', ['a -1\nb  1\n', 'a.jpg\nb.jpg\n',
                                   'JPEGImages/a.jpg\nJPEGImages/b.jpg'])
def test_image_set_of_more_than_names(voc, lines):
    """VOC's own lists of a class, and lists of files."""
    voc.ann_file.write_text(lines)
    repaired, = found(voc, 'repaired')
    assert 'lines of more than a name: 2' in repaired
    assert_trains_and_scores(voc)


def test_image_set_that_is_not_text(voc):
    voc.ann_file.write_bytes('prüfung\n'.encode('iso-8859-1'))
    with pytest.raises(DataError, match='train.txt: is not UTF-8 text'):
        voc.build()


def test_json_that_is_not_utf_8(coco):
    coco.edit_json(first('images', note='Prüfung'))
    text = json.dumps(json.loads(coco.ann_file.read_text()),
                      ensure_ascii=False)
    coco.ann_file.write_bytes(text.encode('iso-8859-1'))
    with pytest.raises(DataError, match='train.json: is not UTF-8 text'):
        coco.build()


@pytest.mark.parametrize('content,message', [
    (b'', 'is empty'), (b'[]', 'is a JSON list'), (b'{', 'not valid JSON'),
    (b'{"images": [], "categories": []}', "empty list 'categories'"),
    (b'{"images": {}}', "no list 'images'")
])
def test_json_that_is_not_coco(coco, content, message):
    coco.ann_file.write_bytes(content)
    with pytest.raises(DataError, match=f'train.json: .*{message}'):
        coco.build()
    assert message in found(coco, 'refused')[0]


# names of images


def test_ending_in_another_case(data):
    data.image.rename(data.image.with_suffix('.JPG'))
    assert data.findings() == []
    assert_trains_and_scores(data)


@pytest.mark.parametrize('name', ['images\\images_0.jpg', 'IMAGES_0.jpg',
                                  '/home/me/images/images_0.jpg',
                                  'tmp/images/images_0.jpg'])
def test_path_of_another_machine(coco, name):
    coco.edit_json(first('images', file_name=name))
    assert coco.findings() == []
    assert_trains_and_scores(coco)


def test_sub_folder(coco):
    (coco.images / 'Sub').mkdir()
    coco.image.rename(coco.images / 'Sub' / 'x')
    for name in ('Sub/x', 'sub\\x', 'Sub/X'):
        coco.edit_json(first('images', file_name=name))
        assert coco.findings() == []
        assert_trains_and_scores(coco)


@pytest.mark.parametrize('file,given', [
    ('low-1', 'low-1'), ('low-1.bmp', 'low-1'), ('low-1.png', 'low-1.png'),
    ('low-1.PNG', 'C:\\data\\low-1.png'), ('a', 'other')
])
def test_image_that_filename_names(voc, file, given):
    image = cv2.imread(str(voc.image))
    voc.image.unlink()
    (voc.images / file).write_bytes(cv2.imencode('.png', image)[1].tobytes())
    voc.edit_xml({'<annotation>':
                  f'<annotation><filename>{given}</filename>'})
    assert voc.findings() == []
    assert_trains_and_scores(voc)


def test_names_that_were_tried(voc):
    voc.edit_xml({'<annotation>': '<annotation><filename>x.jpg</filename>'})
    voc.image.unlink()
    message = r'a.jpg is missing; tried, in any case: a.jpg, .*x.jpg'
    with pytest.raises(DataError, match=message):
        voc.build()[0]
    assert any('x.jpg' in text for text in found(voc, 'refused'))


# sizes


def save_turned(path, image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, exif=exif, quality=95)


def test_swapped_size(data, said):
    """The size of the image file is used; no message about EXIF."""
    image = np.zeros((WIDTH, HEIGHT, 3), np.uint8)
    Image.fromarray(image).save(data.image)
    problems = data.warnings()
    assert any(f'has {HEIGHT} x {WIDTH} pixels, and is annotated as {WIDTH} x '
               f'{HEIGHT}' in problem for problem in problems)
    assert not any('EXIF' in problem for problem in problems)
    assert any('0 of its' in problem for problem in problems)
    sample = data.build()[0]['data_samples']
    assert sample.ori_shape == (WIDTH, HEIGHT)
    assert any('own size counts' in line for line in said())


def test_box_beyond_the_annotated_size(data):
    """It is inside the size of the image file."""
    image = np.zeros((WIDTH, HEIGHT, 3), np.uint8)
    Image.fromarray(image).save(data.image)
    data.set_box((5, 10, 40, 75))
    info = data.build().get_data_info(0)
    assert (info['width'], info['height']) == (HEIGHT, WIDTH)
    assert info['instances'][0]['bbox'] == [5, 10, 40, 75]
    assert not any('box (5, 10, 40, 75)' in text for text in data.warnings())


@pytest.mark.parametrize('orientation', range(2, 9))
def test_exif(data, orientation):
    """A turn by 90 degrees is refused where the annotation has the stored
    size, any other is named, as the size does not show it."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:20, :30] = 255  # seen to be turned
    save_turned(data.image, image, orientation)
    message = f'EXIF orientation {orientation}'
    if orientation < 5:
        assert message in found(data, 'warning')[0]
        assert data.build()[0]
        return
    assert message in found(data, 'refused')[0]
    with pytest.raises(DataError, match=message):
        data.build()[0]
    # the message's advice helps
    for cfg in (data.train, data.test):
        cfg.pipeline[0].color_type = 'color_ignore_orientation'
    assert data.findings() == []
    assert_trains_and_scores(data)


def test_exif_that_opencv_does_not_apply(data):
    """OpenCV does not apply it to WebP."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(data.image)
    data.image.unlink()
    image.save(data.image.with_suffix('.webp'), exif=exif)
    if data.name == 'coco':
        data.edit_json(first('images', file_name='images_0.webp'))
    assert data.findings() == []
    assert_trains_and_scores(data)


# no ground truth, on purpose


def images_only(data):
    if data.name == 'coco':
        data.edit_json(lambda content: content.pop('annotations'))
    else:
        for path in (data.root / 'Annotations').iterdir():
            path.unlink()
        (data.root / 'Annotations').rmdir()


def test_images_only(data, said):
    images_only(data)
    with pytest.raises(DataError):
        data.build()
    assert [f.verdict for f in data.findings(test=True)] == ['noted']
    assert evaluate(data, perfect=False) == {}
    assert any('nothing is evaluated' in line for line in said())


def test_format_only(coco):
    images_only(coco)
    metric = dict(coco.evaluator()[0], format_only=True,
                  outfile_prefix=str(coco.root / 'out'))
    assert evaluate(coco, perfect=False, metrics=[metric]) == {}
    assert json.loads((coco.root / 'out.bbox.json').read_text()) == []


def test_dump_of_images_only(data):
    """As tools/test.py --out does it."""
    images_only(data)
    out = data.root / 'found.pkl'
    evaluate(data, perfect=False, metrics=[
        *data.evaluator(), dict(type='DumpDetResults', out_file_path=str(out))
    ])
    assert len(read_predictions(str(out))) == 2


# the configs


DETECTORS = sorted(
    str(path.relative_to(REPO)) for folder in ('scconv', 'custom', 'digits',
                                               'scratch', 'demo')
    for path in (REPO / 'configs' / folder).glob('faster-rcnn*.py'))


@pytest.mark.parametrize('path', DETECTORS)
def test_configs_have_checked_types(path):
    cfg = Config.fromfile(REPO / path)
    for split in ('train', 'val', 'test'):
        for part in parts_of(cfg[f'{split}_dataloader'].dataset):
            assert part.type.startswith('Checked')
    for metrics in (cfg.val_evaluator, cfg.test_evaluator):
        for metric in metrics if isinstance(metrics, list) else [metrics]:
            assert metric.type.startswith('Checked')
    assert cfg.default_hooks.num_classes.type == 'CheckClassesHook'


def test_stock_types_are_replaced(data):
    """Where the check, the report and the converter read a config."""
    stock = dict(voc='XMLDataset', coco='CocoDataset')[data.name]
    cfg = dict(type='RepeatDataset', times=2, dataset=dict(
        data.train, type=stock))
    assert with_checked_types(cfg)['dataset']['type'] == f'Checked{stock}'
    assert cfg['dataset']['type'] == stock
    data.image.unlink()
    assert 'is missing' in next(find_problems(cfg)).text


# everything at once


def test_check_lists_all_kinds(voc):
    """Not up to the first bad file."""
    voc.edit_xml({'<difficult>0<': '<difficult>Unspecified<',
                  '<name>object<': '<name> object<',
                  '<xmax>75<': '<xmax>x<'})
    (voc.root / 'Annotations/b.xml').write_text('<annotation>')
    voc.image.unlink()
    voc.ann_file.write_text('a\nb\nc\n')
    verdicts = [(f.verdict, f.file.rpartition('/')[2]) for f in voc.findings()]
    assert verdicts == [
        ('refused', 'a.xml'), ('refused', 'b.xml'), ('refused', 'c.xml'),
        ('warning', 'a.xml'), ('warning', 'train.txt'),  # half is difficult
        ('repaired', 'train.txt'), ('refused', 'a.jpg')
    ]


ODD = (None, True, 0, -1, 1.5, '', '1', 'x', [], [1], {}, float('nan'),
       float('inf'), 10**400, [[1, 2]])


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_odd_values_never_end_in_a_traceback(coco, key):
    """DataError names the file, or it trains."""
    content = json.loads(coco.ann_file.read_text())
    for field in (*content[key][0], 'segmentation', 'ignore'):
        for value in ODD:
            edited = copy.deepcopy(content)
            edited[key][0][field] = value
            coco.ann_file.write_text(json.dumps(edited))
            for read in (coco.build, lambda: Evaluator(coco.evaluator())):
                try:
                    read()
                except DataError as error:
                    assert 'train.json' in str(error)
