"""Damaged data of each kind gives a clear error, or is handled."""
import logging
import runpy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import two_images
from conftest import IMAGE_SIZE, REPO
from mmdet.registry import HOOKS, MODELS
from mmengine.logging import MMLogger
from PIL import Image
from two_images import CONFIG, load

from mmdet_scconv.datasets.findings import DataError

HEIGHT, WIDTH = IMAGE_SIZE
# fixtures
data, voc, coco = two_images.data, two_images.voc, two_images.coco


def pixels(item):
    return item['inputs'].permute(1, 2, 0).numpy()


def test_good_data(data):
    assert data.warnings() == []
    assert len(data.build()) == 2
    boxes = data.build()[0]['data_samples'].gt_instances
    assert len(boxes) == 2


# images


def test_missing_image(data):
    data.image.unlink()
    with pytest.raises(FileNotFoundError, match=data.image.name):
        data.build()[0]
    problem, = data.warnings()
    assert problem.startswith('is missing; tried')


@pytest.mark.parametrize('content,message', [
    (b'', 'is empty'),
    (b'not an image', 'cannot be used'),
])
@pytest.mark.parametrize('test', [False, True])
def test_unreadable_image(data, content, message, test):
    data.image.write_bytes(content)
    with pytest.raises(DataError, match=f'{data.image.name} {message}'):
        data.build(test)[0]
    assert len(data.warnings()) == 1


def test_cut_image_is_found_by_the_check(data):
    """OpenCV fills the rest of it with grey."""
    content = data.image.read_bytes()
    data.image.write_bytes(content[:len(content) // 2])
    problem, = data.warnings()
    assert 'truncated' in problem


def test_cmyk(voc):
    """Its colours are right: four channels are not read as three."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[..., 0] = 200
    Image.fromarray(rgb).convert('CMYK').save(voc.image, quality=95)
    shown = pixels(voc.build()[0]).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(shown, (0, 0, 200), atol=12)  # BGR
    assert voc.warnings() == []


def test_16_bit(voc):
    deep = np.full((HEIGHT, WIDTH), 0x80FF, np.uint16)
    cv2.imwrite(str(voc.image.with_suffix('.png')), deep)
    voc.image.unlink()
    assert (pixels(voc.build()[0]) == 0x80).all()
    problem, = voc.warnings()
    assert '16 bits' in problem


def turn(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


@pytest.mark.parametrize('test', [False, True])
def test_exif_against_the_annotation(data, test):
    turn(data.image, 6)
    with pytest.raises(DataError, match='(?s)EXIF.*color_ignore_orientation'):
        data.build(test)[0]
    problem, = data.warnings()
    assert 'EXIF' in problem


def test_exif_as_annotated(data):
    """Upright, as every viewer shows it."""
    upright = np.asarray(Image.open(data.image))
    Image.fromarray(np.rot90(upright)).save(data.image, quality=95)
    turn(data.image, 6)
    assert data.build()[0]['data_samples'].ori_shape == IMAGE_SIZE
    assert data.warnings() == []


def test_size_that_is_not_the_image_s(data):
    Image.new('RGB', (50, 50)).save(data.image)
    assert any(f'has 50 x 50 pixels, and is annotated as {WIDTH} x {HEIGHT}'
               in problem for problem in data.warnings())


def test_one_pixel(coco):
    Image.new('RGB', (1, 1)).save(coco.image)
    coco.edit_json(lambda data: data['images'][0].update(width=1, height=1))
    sample = coco.build()[0]['data_samples']
    assert len(sample.gt_instances) == 0 and sample.img_shape == (800, 800)


# boxes


@pytest.mark.parametrize('box,problem', [
    ((5, 10, 5, 50), 'has no area'),
    ((40, 50, 5, 10), 'has no area'),
    ((WIDTH + 5, 10, WIDTH + 40, 50), 'lies outside the 80 x 60 image'),
])
def test_box_without_area_in_the_image(data, box, problem):
    data.set_box(box)
    sample = data.build()[0]['data_samples']
    assert len(sample.gt_instances) == 1
    assert problem in data.warnings()[0]


def test_box_over_the_border(data):
    data.set_box((60, 40, 100, 90))
    sample = data.build()[0]['data_samples']
    clipped = sample.gt_instances.bboxes.tensor[0]
    assert torch.isclose(
        clipped[2] - clipped[0],
        torch.tensor((WIDTH - 60) * sample.scale_factor[0]).float())
    assert 'clipped' in data.warnings()[0]


def test_image_without_boxes(data):
    if data.name == 'voc':
        (data.root / 'Annotations/a.xml').write_text(
            '<annotation><size><width>80</width><height>60</height></size>'
            '</annotation>')
    else:
        data.edit_json(lambda d: d.update(annotations=d['annotations'][2:]))
    assert len(data.build()[0]['data_samples'].gt_instances) == 0
    assert data.warnings() == []


# annotation files


@pytest.mark.parametrize('old,new,message', [
    ('<annotation>', '<annotation', 'is not valid XML'),
    ('<annotation>', '', 'is not valid XML'),
    ('<annotation>', '<!DOCTYPE a [<!ENTITY b "c">]><annotation>',
     'defines XML entities'),
    ('<xmin>6</xmin>', '', r"object 1 \(object\) has xmin=None"),
    ('<xmin>5</xmin>', '<xmin>five</xmin>', "has xmin='five', which is not"),
    ('<xmin>5</xmin>', '<xmin>nan</xmin>', "has xmin='nan'"),
    ('<name>object</name>', '', 'object 1 has no name'),
    ('bndbox', 'box', 'mismatched tag'),
])
def test_malformed_xml(voc, old, new, message):
    voc.edit_xml({old.replace('6', '5'): new})
    with pytest.raises(DataError, match=f'a.xml: .*{message}'):
        voc.build()


def test_entities_in_another_encoding(voc):
    voc.edit_xml({'<annotation>': '<!DOCTYPE a [<!ENTITY b "c">]><annotation>'
                  })
    path = voc.root / 'Annotations/a.xml'
    path.write_bytes(path.read_text().encode('utf-16'))
    with pytest.raises(DataError, match='a.xml: defines XML entities'):
        voc.build()


def test_missing_xml(voc):
    (voc.root / 'Annotations/a.xml').unlink()
    with pytest.raises(FileNotFoundError, match='a.xml'):
        voc.build()


def remove(key):
    return lambda data: data.pop(key)


def change(key, **changes):
    return lambda data: data[key][0].update(changes)


def lacks(key, name):
    return lambda data: data[key][0].pop(name)


@pytest.mark.parametrize('edit,message', [
    (remove('categories'), "has no list 'categories'"),
    (remove('annotations'), 'has no boxes: nothing can be trained on'),
    (lacks('images', 'file_name'), r'images\[0\] \(None\) has no file_name'),
    (lacks('annotations', 'bbox'), r'annotations\[0\] \(id 1\) has no bbox'),
    (change('annotations', image_id=9), 'image_id 9, which is not among'),
    (change('annotations', category_id=9), 'category_id 9, which is not'),
    (change('annotations', bbox=[1, 2, 3]), r'bbox=\[1, 2, 3\]'),
    (change('annotations', bbox=[1, 2, 3, float('nan')]), 'not four numbers'),
    (change('categories', name='cat'), r"no categories \['object'\]"),
])
def test_malformed_json(coco, edit, message):
    coco.edit_json(edit)
    with pytest.raises(DataError, match=f'train.json.*{message}'):
        coco.build()


def test_a_file_that_is_not_json(coco):
    coco.ann_file.write_text(coco.ann_file.read_text()[:-9])
    with pytest.raises(DataError, match='train.json: is not valid JSON'):
        coco.build()


def test_json_without_areas(coco):
    coco.edit_json(lacks('annotations', 'area'))
    assert len(coco.build()[0]['data_samples'].gt_instances) == 2


def test_proposals_are_not_unpickled(data):
    """Their file does not even exist."""
    with pytest.raises(DataError, match="proposal_file='a.pkl' is not read"):
        data.build(proposal_file='a.pkl')


# classes


@pytest.fixture
def warnings(caplog):
    """Lines that MMEngine's current logger shows."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING)
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


def test_unknown_class_names(voc, warnings):
    voc.edit_xml({'<name>object</name>': '<name>objekt</name>'})
    assert len(voc.build()[0]['data_samples'].gt_instances) == 1
    assert "'objekt' is not in metainfo classes=('object',)" in warnings()


def test_no_known_class_name(voc):
    with pytest.raises(DataError, match=r"of other classes: \{'object': 6\}"):
        voc.build(metainfo=dict(classes=('cat', )))


@pytest.mark.parametrize('classes', ['object', None, ()])
def test_classes_that_are_not_names(data, classes):
    with pytest.raises(DataError, match=r"e.g. classes=\('object', \)"):
        data.build(metainfo=dict(classes=classes))


def test_empty_data_set(data):
    if data.name == 'voc':
        data.ann_file.write_text('\n')
    else:
        data.edit_json(lambda d: d.update(images=[], annotations=[]))
    with pytest.raises(DataError, match='train.*: no images are listed'):
        data.build()


def test_all_images_filtered(data):
    with pytest.raises(DataError, match='all 2 are left out by filter_cfg'):
        data.build(filter_cfg=dict(min_size=100))


def test_wrong_num_classes(voc):
    """Of the head: MMDetection's own check is on in our configs."""
    cfg = load('voc')
    hook = HOOKS.build(cfg.default_hooks.num_classes)
    runner = SimpleNamespace(
        model=MODELS.build(cfg.model),
        train_dataloader=SimpleNamespace(dataset=voc.build()))
    hook.before_train_epoch(runner)
    runner.train_dataloader.dataset = voc.build(
        metainfo=dict(classes=('object', 'cat')))
    with pytest.raises(AssertionError, match=r'(?s)`num_classes` \(1\).*2'):
        hook.before_train_epoch(runner)


# the command line


def check(monkeypatch, capsys, data):
    monkeypatch.setattr(
        'sys.argv',
        ['check_dataset.py', str(REPO / CONFIG.format(data.name)), '--split',
         'train', '--cfg-options',
         f'train_dataloader.dataset.data_root={data.root}'])
    code = 0
    try:
        runpy.run_path(str(REPO / 'tools/misc/check_dataset.py'),
                       run_name='__main__')
    except SystemExit as error:
        code = error.code
    return code, capsys.readouterr().out


def test_check_dataset(monkeypatch, capsys, voc):
    code, output = check(monkeypatch, capsys, voc)
    assert code == 0 and 'train: 2 images, 0 warnings, 0 refused' in output
    voc.image.write_bytes(b'')
    code, output = check(monkeypatch, capsys, voc)
    assert code == 1 and 'a.jpg: is empty' in output
    voc.edit_xml({'<annotation>': ''})
    code, output = check(monkeypatch, capsys, voc)
    assert code == 1 and 'a.xml: is not valid XML' in output
    assert 'a.jpg: is missing' not in output
