import json

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO
from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmdet_scconv.backbones import CIFARResNet, SCConvResNet, SCConvResNeXt
from mmdet_scconv.pretrained import read_state_dict
from mmdet_scconv.warm_start.convert import Conversion, resnet_to_scconv

BACKBONE = dict(conv2_cfg=dict(gn_groups=4))
SMALL = dict(generated=True, num_images=6, size=48, backbone=BACKBONE)


@pytest.fixture(scope='module')
def dense():
    torch.manual_seed(0)
    return ResNet(18, base_channels=8).state_dict()


@pytest.fixture
def source(tmp_path, dense):
    path = tmp_path / 'dense.pth'
    torch.save(dense, path)
    return str(path)


def converted(source, out, **options):
    resnet_to_scconv(source, str(out), Conversion(**{**SMALL, **options}))
    return read_state_dict(str(out))


def test_three_namings_give_the_same_weights(source, dense, tmp_path):
    """torchvision's and timm's (with a classifier, as .pth and
    .safetensors) and MM's (a training checkpoint of a detector)."""
    from safetensors.torch import save_file
    wanted = converted(source, tmp_path / 'a.pth')
    classifier = {'fc.weight': torch.zeros(3, 64), 'fc.bias': torch.zeros(3)}
    save_file({**dense, **classifier}, tmp_path / 'timm.safetensors')
    torch.save({**dense, **classifier}, tmp_path / 'torchvision.pth')
    torch.save(
        dict(meta=dict(epoch=1), state_dict={
            **{'backbone.' + k: v for k, v in dense.items()},
            'neck.fpn_convs.0.conv.weight': torch.zeros(1)
        }), tmp_path / 'mm.pth')
    for name in ('timm.safetensors', 'torchvision.pth', 'mm.pth'):
        found = converted(str(tmp_path / name), tmp_path / 'b.pth')
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(found[key], tensor), (name, key)


@pytest.mark.parametrize('name', ['out.pth', 'out.safetensors'])
def test_a_detector_loads_all_of_it(source, tmp_path, name):
    out = tmp_path / name
    weights = converted(source, out, method='copy')
    backbone = MODELS.build(dict(
        type='SCConvResNet', depth=18, base_channels=8, frozen_stages=-1,
        init_cfg=dict(type='Pretrained', checkpoint=str(out)), **BACKBONE))
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[k], v) for k, v in weights.items())


def test_resnext(tmp_path):
    torch.manual_seed(0)
    settings = dict(depth=50, base_channels=16, groups=4, base_width=8)
    dense = ResNeXt(**settings).state_dict()
    torch.save(dense, tmp_path / 'dense.pth')
    out = tmp_path / 'out.pth'
    found = converted(str(tmp_path / 'dense.pth'), out, backbone={})
    meta = torch.load(out, weights_only=True)['meta']
    assert meta['backbone'] == dict(
        type='SCConvResNeXt', conv2_cfg=dict(type='SCConv'), **settings)
    assert {layer['method'] for layer in meta['layers']} == {'closed form'}
    assert found.keys() == SCConvResNeXt(**settings).state_dict().keys()
    assert torch.equal(found['layer1.0.conv3.weight'],
                       dense['layer1.0.conv3.weight'])


def test_whole_detector(dense, tmp_path):
    given = {'backbone.' + k: v for k, v in dense.items()}
    given['neck.weight'] = torch.ones(2)
    torch.save(given, tmp_path / 'detector.pth')
    found = converted(str(tmp_path / 'detector.pth'), tmp_path / 'out.pth',
                      method='copy', whole=True)
    backbone = SCConvResNet(18, base_channels=8, **BACKBONE)
    assert found.keys() == {'neck.weight'} | {
        'backbone.' + k for k in backbone.state_dict()}
    assert torch.equal(found['neck.weight'], torch.ones(2))


@pytest.mark.parametrize('meta', [
    dict(dataset_meta=dict(classes=('RBC', 'WBC', 'Platelets'),
                           palette=[(220, 20, 60), (0, 0, 142), (1, 2, 3)])),
    dict(CLASSES=('RBC', 'WBC', 'Platelets')),  # of MMDetection 2
])
def test_whole_detector_keeps_the_names_of_its_classes(meta, dense, tmp_path):
    given = {'backbone.' + k: v for k, v in dense.items()}
    given['neck.weight'] = torch.ones(2)
    torch.save(dict(meta=dict(epoch=12, mmengine_version='0.10', **meta),
                    state_dict=given), tmp_path / 'epoch_12.pth')
    converted(str(tmp_path / 'epoch_12.pth'), tmp_path / 'out.pth',
              method='copy', whole=True)
    found = torch.load(tmp_path / 'out.pth', weights_only=True)['meta']
    classes = found.get('CLASSES') or found['dataset_meta']['classes']
    assert tuple(classes) == ('RBC', 'WBC', 'Platelets')
    assert found['method'] == 'copy' and 'epoch' not in found


@pytest.mark.parametrize('prefix,beside,out,message', [
    ('backbone.body.', 'roi_heads.box_head.fc6.bias', 'out.pth',
     "'backbone.body.'.*torchvision's detectors have other heads.*without"),
    ('', 'fc.bias', 'out.pth', "under '', and nothing"),
    ('backbone.', None, 'out.pth', 'nothing beside the backbone'),
    ('backbone.', 'neck.bias', 'out.safetensors', 'name a .pth'),
])
def test_sources_that_are_not_a_whole_detector(prefix, beside, out, message,
                                               dense, tmp_path):
    given = {prefix + k: v for k, v in dense.items()}
    if beside:
        given[beside] = torch.ones(2)
    torch.save(given, tmp_path / 'given.pth')
    with pytest.raises(ValueError, match=message):
        converted(str(tmp_path / 'given.pth'), tmp_path / out,
                  method='copy', whole=True)
    assert not (tmp_path / out).exists()


def test_counts_of_thop_are_left_out(source, dense, tmp_path):
    wanted = converted(source, tmp_path / 'a.pth', method='copy')
    counted = {**dense}
    for name in [k.rsplit('.', 1)[0] for k in dense] + ['layer1', '']:
        for count in ('total_ops', 'total_params'):
            counted[f'{name}.{count}'.strip('.')] = torch.zeros(1)
    torch.save(counted, tmp_path / 'counted.pth')
    found = converted(
        str(tmp_path / 'counted.pth'), tmp_path / 'b.pth', method='copy')
    assert found.keys() == wanted.keys()


def test_provenance(source, tmp_path):
    out = tmp_path / 'out.pth'
    converted(source, out)
    meta = torch.load(out, weights_only=True)['meta']
    assert meta['converted_from']['file'] == 'dense.pth'
    assert len(meta['converted_from']['sha256']) == 64
    assert meta['method'] == 'fit'
    assert meta['images'] == dict(source='generated, spectrum of 1/f', count=6,
                                  size=48)
    assert len(meta['layers']) == 8 and meta['date'] and meta['versions']
    assert not list(tmp_path.glob('out.pth?*'))


def test_provenance_in_safetensors(source, tmp_path):
    from safetensors import safe_open
    out = tmp_path / 'out.safetensors'
    converted(source, out, method='copy')
    with safe_open(str(out), 'pt') as file:
        assert json.loads(file.metadata()['meta'])['method'] == 'copy'


def test_images_of_a_folder(source, tmp_path):
    rng = np.random.default_rng(0)
    for i, shape in enumerate(((40, 90, 3), (100, 60, 3), (48, 48, 3))):
        cv2.imwrite(str(tmp_path / f'{i}.png'),
                    rng.integers(0, 255, shape, np.uint8))
    # what macOS and notebooks leave beside them
    (tmp_path / '._0.png').write_bytes(b'\0\5\x16\7Mac OS X')
    (tmp_path / '.ipynb_checkpoints').mkdir()
    (tmp_path / '.ipynb_checkpoints/0-checkpoint.png').touch()
    out = tmp_path / 'out.pth'
    converted(source, out, generated=False, folder=str(tmp_path))
    assert torch.load(out, weights_only=True)['meta']['images']['count'] == 3


@pytest.mark.parametrize('options,message', [
    (dict(method='guess'), "method='guess' is not valid"),
    (dict(generated=False), 'needs images'),
    (dict(num_images=1), 'num_images=1 is not valid'),
    (dict(size=8), 'size=8 is not valid'),
])
def test_bad_options(options, message, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        converted(source, tmp_path / 'out.pth', **options)


@pytest.mark.parametrize('options,count', [
    ({}, 64), (dict(size=112), 256), (dict(size=4000), 2),
    (dict(size=112, num_images=5), 5),
])
def test_small_images_are_more_images(options, count):
    """As at the start of a training."""
    assert Conversion(**options).count() == count


def test_folder_without_images(source, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='no images in the folder'):
        converted(source, tmp_path / 'out.pth', generated=False,
                  folder=str(tmp_path / 'empty'))


def test_config_of_another_backbone(source, tmp_path):
    (tmp_path / 'config.py').write_text(
        "model = dict(backbone=dict(type='ResNet'))")
    with pytest.raises(ValueError, match="'ResNet', not SCConvResNet"):
        converted(source, tmp_path / 'out.pth', generated=False,
                  config=str(tmp_path / 'config.py'))


CIFAR_CONFIG = REPO / 'configs/cifar/scconv-r56_1e_cifar10-folders.py'


@pytest.fixture
def classifier(tmp_path):
    """A checkpoint as those of akamaster/pytorch_resnet_cifar10: shortcuts
    without weights, ``linear``, ``module.`` before all names."""
    torch.manual_seed(0)
    state = {f'module.{k}': v for k, v in CIFARResNet(20).state_dict().items()
             if '.downsample.' not in k}
    state['module.linear.weight'] = torch.randn(10, 64)
    state['module.linear.bias'] = torch.randn(10)
    torch.save(dict(state_dict=state, best_prec1=9.), tmp_path / 'c.th')
    (tmp_path / 'config.py').write_text(
        f'_base_ = {str(CIFAR_CONFIG)!r}\n'
        'model = dict(backbone=dict(depth=20))\n')
    return str(tmp_path / 'c.th'), state


def test_whole_classifier(classifier, tmp_path):
    """The config's classifier loads all of it."""
    source, state = classifier
    config = str(tmp_path / 'config.py')
    found = converted(source, tmp_path / 'out.pth', whole=True, backbone={},
                      config=config, size=32)
    cfg = Config.fromfile(config).model
    cfg.backbone._scope_ = cfg._scope_ = 'mmdet'
    model = MODELS.build(cfg)
    wanted = model.state_dict()
    assert found.keys() == {k for k in wanted if 'preprocessor' not in k}
    model.load_state_dict(found)
    assert torch.equal(found['fc.weight'], state['module.linear.weight'])
    assert torch.equal(found['backbone.layer1.0.conv1.weight'],
                       state['module.layer1.0.conv1.weight'])


def test_fine_tuned_with_the_shipped_config(classifier, tmp_path):
    """From images in folders to a score; the norms keep their statistics."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(10):
            folder = tmp_path / 'images' / split / f'class{label}'
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / '0.jpg'),
                        rng.integers(0, 255, (32, 32, 3), np.uint8))
    source, _ = classifier
    config, out = str(tmp_path / 'config.py'), tmp_path / 'out.pth'
    weights = converted(source, out, whole=True, backbone={}, config=config,
                        generated=False, folder=str(tmp_path / 'images'),
                        size=32)
    cfg = Config.fromfile(config)
    for loader in (cfg.train_dataloader, cfg.val_dataloader,
                   cfg.test_dataloader):
        loader.dataset.data_root = str(tmp_path / 'images')
        loader.update(num_workers=0, persistent_workers=False, batch_size=5)
    cfg.update(work_dir=str(tmp_path / 'work_dir'), load_from=str(out),
               log_level='WARNING')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    assert 0 <= runner.message_hub.get_scalar(
        'val/accuracy/top1').current() <= 1
    trained = runner.model.state_dict()
    assert all(torch.equal(trained[name], value)
               for name, value in weights.items() if 'running' in name)
    for name in ('fc.weight', 'backbone.layer3.2.conv2.cru.gwc.weight'):
        assert not torch.equal(trained[name], weights[name])


def test_distillation_of_a_classifier_is_of_its_scores_too(
        classifier, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        'mmdet_scconv.warm_start.distill.tensors_of',
        lambda out: seen.append([x.shape for x in out]) or iter(out))
    converted(classifier[0], tmp_path / 'out.pth', whole=True, backbone={},
              config=str(tmp_path / 'config.py'), size=32, method='distill',
              steps=1)
    assert seen == 2 * [[(6, 64, 8, 8), (6, 10)]]


def test_without_a_config_cifar_gets_scconvs(classifier, tmp_path):
    converted(classifier[0], tmp_path / 'out.pth', method='copy', backbone={})
    meta = torch.load(tmp_path / 'out.pth', weights_only=True)['meta']
    assert meta['backbone'] == dict(
        type='CIFARResNet', depth=20, base_channels=16,
        conv2_cfg=dict(type='SCConv'))


def test_nothing_is_written_when_interrupted(source, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmdet_scconv.warm_start.network.fit_layer', stop)
    with pytest.raises(KeyboardInterrupt):
        converted(source, tmp_path / 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['dense.pth']


def test_distilled(source, tmp_path):
    first, second = (
        converted(source, tmp_path / 'out.pth', method='distill', steps=2)
        for _ in range(2))
    assert all(torch.equal(second[key], value)
               for key, value in first.items())
    meta = torch.load(tmp_path / 'out.pth', weights_only=True)['meta']
    assert meta['method'] == 'distill'
    assert meta['distillation'] == dict(steps=2, lr=1e-3)
