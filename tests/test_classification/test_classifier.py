import pytest
import torch
import torch.nn.functional as F
from mmdet import registry
from mmengine import registry as root_registry
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint
from mmengine.structures import BaseDataElement

import mmdet_scconv.classification as classification
from mmdet_scconv.classification import ImageClassifier

BACKBONE = dict(
    type='SCConvResNet', depth=18, base_channels=16, norm_eval=False)


def samples(*labels):
    made = [BaseDataElement() for _ in labels]
    for sample, label in zip(made, labels):
        sample.gt_label = torch.tensor(label)
    return made


@pytest.mark.parametrize('smoothing', [0, 0.1])
def test_loss_is_the_smoothed_cross_entropy(smoothing):
    torch.manual_seed(0)
    model = ImageClassifier(BACKBONE, 5, label_smoothing=smoothing).eval()
    x = torch.rand(3, 3, 32, 32)
    target = torch.full((3, 5), smoothing / 5)
    target[range(3), [4, 0, 2]] += 1 - smoothing
    features = model.backbone(x)[-1].mean((2, 3))
    log_probabilities = F.log_softmax(
        features @ model.fc.weight.T + model.fc.bias, 1)
    loss = model(x, samples(4, 0, 2), mode='loss')['loss']
    torch.testing.assert_close(
        loss, -(target * log_probabilities).sum(1).mean())


def test_every_parameter_gets_a_gradient():
    model = ImageClassifier(BACKBONE, 5)
    model.init_weights()
    model.train()
    model(torch.rand(2, 3, 32, 32), samples(1, 2), 'loss')['loss'].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_predict_leaves_scores_and_label():
    model = ImageClassifier(BACKBONE, 5).eval()
    x = torch.rand(2, 3, 32, 32)
    found = model(x, samples(1, 2), mode='predict')
    expected = model(x).softmax(1)
    for sample, scores, label in zip(found, expected, (1, 2)):
        torch.testing.assert_close(sample.pred_scores, scores)
        assert sample.pred_label == scores.argmax()
        assert sample.gt_label == label


def test_predict_without_samples():
    found = ImageClassifier(BACKBONE, 5).eval()(
        torch.rand(2, 3, 32, 32), mode='predict')
    assert [s.pred_scores.shape for s in found] == [(5, ), (5, )]


@pytest.mark.parametrize('options,message', [
    (dict(num_classes=0), 'num_classes=0'),
    (dict(label_smoothing=1), 'label_smoothing=1'),
    (dict(backbone=dict(type='mmdet.CSPDarknet')),
     "type='mmdet.CSPDarknet' has no 'feat_dim'"),
])
def test_invalid_options(options, message):
    valid = dict(backbone=BACKBONE, num_classes=5)
    with pytest.raises(ValueError, match=message):
        ImageClassifier(**{**valid, **options})


def test_invalid_mode():
    with pytest.raises(ValueError, match="mode='losses' is not valid"):
        ImageClassifier(BACKBONE, 5)(torch.rand(1, 3, 32, 32), mode='losses')


def test_backbone_that_needs_its_width_named():
    model = ImageClassifier(
        dict(type='mmdet.CSPDarknet', widen_factor=0.125), 5, in_channels=128)
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize('num_stages', [4, 3])
def test_a_detectors_backbone_takes_the_checkpoint(tmp_path, num_stages):
    """One with fewer stages, too."""
    model = ImageClassifier(BACKBONE, 5)
    path = str(tmp_path / 'classifier.pth')
    save_checkpoint(dict(state_dict=model.state_dict()), path)
    backbone = registry.MODELS.build(
        dict(
            BACKBONE,
            num_stages=num_stages,
            strides=(1, 2, 2, 2)[:num_stages],
            dilations=(1, ) * num_stages,
            out_indices=(0, num_stages - 1),
            init_cfg=dict(
                type='Pretrained', checkpoint=path, prefix='backbone.')))
    backbone.init_weights()
    trained = model.backbone.state_dict()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, trained[key]), key


@pytest.mark.parametrize('kind,name', [
    ('MODELS', 'ImageClassifier'),
    ('DATASETS', 'CIFAR10'),
    ('DATASETS', 'CIFAR100'),
    ('DATASETS', 'ImageFolder'),
    ('METRICS', 'TopKAccuracy'),
    ('TRANSFORMS', 'PackClsInputs'),
    ('TRANSFORMS', 'RandomPadCrop'),
    ('TRANSFORMS', 'RandomResizedCrop'),
])
def test_registered_in_mmdet_under_a_name_of_its_own(kind, name):
    assert getattr(registry, kind).get(name) is getattr(classification, name)
    # a second one in the root would depend on who asks
    assert name not in getattr(root_registry, kind).module_dict


def test_found_by_scope_in_mmpretrain():
    pytest.importorskip('mmpretrain.models', exc_type=ImportError)
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(type='mmdet.SCConvResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=5,
            in_channels=512,
            loss=dict(type='CrossEntropyLoss')))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = root_registry.MODELS.build(cfg)
    assert type(model).__module__.startswith('mmpretrain')
    assert type(model.backbone).__name__ == 'SCConvResNet'
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 5)
