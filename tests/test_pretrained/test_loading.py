"""Files, prefixes and shapes that a user may meet, and the messages."""
import contextlib
import copy
import hashlib
import http.server
import logging
import os
import pickle
import shutil
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from mmdet_scconv.backbones import SCConvResNet, TiedConvResNet
from mmdet_scconv.errors import FrozenWeightsError, UserError
from mmdet_scconv.pretrained import (
    load_pretrained,
    read_state_dict,
    use_checked_pretrained,
)

SMALL = dict(depth=18, base_channels=16)


def dense(**options):
    """A small ResNet with values of its own in every tensor."""
    net = ResNet(**SMALL, **options)
    for value in net.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    return net


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def save(state, path):
    (save_file if path.suffix == '.safetensors' else torch.save)(state, path)
    return str(path)


@pytest.fixture
def log():
    """Messages of MMEngine's logger, each with its level."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(
        (record.levelno, record.getMessage()))
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def warnings_in(log):
    return '\n'.join(text for level, text in log if level >= logging.WARNING)


# files


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_round_trip(suffix, tmp_path):
    state = dense().state_dict()
    assert equal(read_state_dict(save(state, tmp_path / f'x{suffix}')), state)


@pytest.mark.parametrize('wrap', [
    lambda s: dict(state_dict=s, meta=dict(epoch=1)),
    lambda s: dict(model=s, optimizer=dict(state={})),
    lambda s: dict(model=dict(state_dict=s)),
])
def test_wrappers(wrap, tmp_path):
    state = dict(weight=torch.ones(2))
    assert equal(
        read_state_dict(save(wrap(state), tmp_path / 'x.pth')), state)


def test_training_checkpoint_of_mmengine(tmp_path):
    """Its log buffers need names that torch does not allow by itself."""
    hub = MessageHub('test_loading')
    hub.update_scalar('train/loss', 0.5)
    state = dict(weight=torch.ones(2))
    path = save(
        dict(state_dict=state, message_hub=hub.state_dict()),
        tmp_path / 'epoch_1.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert equal(read_state_dict(path), state)


class Hostile:
    """Creates a file when unpickled."""

    def __init__(self, path, function):
        self.path = path
        self.function = function

    def __reduce__(self):
        return self.function, (str(self.path), )


def torch_zip(content, path):
    torch.save(content, path)


def bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize('function,named', [
    (os.mkdir, r'(posix|nt)\.mkdir'),
    (exec, 'exec'),
])
@pytest.mark.parametrize('write', [torch_zip, bare_pickle])
def test_hostile_file_runs_nothing(write, function, named, tmp_path):
    path, victim = tmp_path / 'x.pth', tmp_path / 'victim'
    argument = victim if function is os.mkdir else f'open({str(victim)!r},"w")'
    write(dict(state_dict=Hostile(argument, function)), path)
    with pytest.raises(ValueError, match='x.pth is not loaded, and '
                       f'nothing in it was run: it holds {named}'):
        read_state_dict(str(path))
    assert not victim.exists()
    with contextlib.suppress(RuntimeError, AttributeError):
        torch.load(path, weights_only=False)
    assert victim.exists(), 'the file was not hostile at all'


class Getattr:

    def __reduce__(self):
        return getattr, (torch.Tensor, '__init__')


def test_getattr_is_not_called(tmp_path):
    """MMEngine's loader allows it, and so gives access to modules and
    functions."""
    path = tmp_path / 'x.pth'
    torch_zip(Getattr(), path)
    with pytest.raises(ValueError, match="holds attribute '__init__' of"):
        read_state_dict(str(path))


def test_whole_module_is_refused(tmp_path):
    path = save(nn.Linear(1, 1), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='holds torch.nn.modules.linear'):
        read_state_dict(path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('keep', [0, 0.01, 0.5, 0.99])
def test_truncated_file(suffix, keep, tmp_path):
    path = tmp_path / f'x{suffix}'
    save(dense().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[:int(keep * len(content))])
    with pytest.raises(ValueError, match=f'x{suffix} is damaged, or not a '):
        read_state_dict(str(path))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_text_file(suffix, tmp_path):
    path = tmp_path / f'x{suffix}'
    path.write_text('<!DOCTYPE html> not found')
    with pytest.raises(ValueError, match=f'x{suffix} is damaged, or not a '):
        read_state_dict(str(path))


@pytest.mark.parametrize('content,said', [
    ([torch.ones(1)], 'it is a list'),
    ({}, 'it is an empty dict'),
    (dict(state_dict={}), "its 'state_dict' is an empty dict"),
    (dict(weight=[1., 2.]), "'weight' is a list"),
    ({0: torch.ones(1)}, 'in it 0 is a Tensor'),
])
def test_not_a_checkpoint(content, said, tmp_path):
    path = save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f'x.pth is not a checkpoint.*{said}'):
        read_state_dict(path)


def test_safetensors_is_not_installed(tmp_path, monkeypatch):
    path = save(dict(a=torch.ones(1)), tmp_path / 'x.safetensors')
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(ImportError, match=r'mmdet-scconv\[safetensors\]'):
        read_state_dict(path)


def test_damaged_download_says_where_it_is_from(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub/checkpoints'
    cache.mkdir(parents=True)
    (cache / 'r.pth').write_bytes(b'PK')
    with pytest.raises(ValueError, match='http://127.0.0.1:9/r.pth: delete'):
        read_state_dict('http://127.0.0.1:9/r.pth')


class Files(http.server.SimpleHTTPRequestHandler):

    def log_message(self, *args):
        pass


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder that is served, and its address; an empty cache."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    folder = tmp_path / 'www'
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(weight=torch.tensor(value)), path)


def test_two_addresses_with_one_name(web):
    folder, address = web
    for value, name in enumerate(('a/model.pth', 'b/model.pth')):
        put(folder / name, value)
    for _ in range(2):  # downloaded, from the cache
        assert [read_state_dict(f'{address}/{name}/model.pth')['weight'].item()
                for name in 'ab'] == [0, 1]
        shutil.rmtree(folder, ignore_errors=True)


def test_a_file_of_another_address_is_not_taken(web, tmp_path):
    folder, address = web
    put(folder / 'a/model.pth', 1)
    put(tmp_path / 'cache/hub/checkpoints/model.pth', 0)  # torch's name for it
    assert read_state_dict(f'{address}/a/model.pth')['weight'] == 1


def test_a_file_that_was_put_there(tmp_path, monkeypatch, log):
    """On a machine without network, as the message asks for."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/a/model.pth'
    with pytest.raises(FileNotFoundError) as error:
        read_state_dict(url)
    path = str(error.value).split('as\n  ')[1]
    put(Path(path), 1)
    assert read_state_dict(url)['weight'] == 1
    assert f'{path} is used' in warnings_in(log)


def test_a_file_that_its_name_tells(tmp_path, monkeypatch, log):
    """With the start of its sum: torch's own download, of whatever address.
    """
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    put(tmp_path / 'x.pth', 1)
    digest = hashlib.sha256((tmp_path / 'x.pth').read_bytes()).hexdigest()
    name = f'model-{digest[:8]}.pth'
    put(tmp_path / 'hub/checkpoints' / name, 1)
    (tmp_path / 'x.pth').rename(tmp_path / 'hub/checkpoints' / name)
    assert read_state_dict(f'http://127.0.0.1:9/{name}')['weight'] == 1
    assert not warnings_in(log)


def test_scheme_that_is_not_known():
    with pytest.raises(ValueError, match="checkpoint='s3://a.pth' is not"):
        read_state_dict('s3://a.pth')


# prefixes, keys and shapes


@pytest.mark.parametrize('given,prefix', [
    (None, ''),
    (None, 'backbone.'),
    (None, 'module.backbone.'),
    ('backbone', 'backbone.'),
    ('backbone.', 'backbone.'),
])
def test_prefixes(given, prefix, tmp_path):
    source, net = dense(), ResNet(**SMALL)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    state.update({'head.weight': torch.ones(1), 'fc.weight': torch.ones(1)})
    if not prefix:
        del state['head.weight']
    report = load_pretrained(net, save(state, tmp_path / 'x.pth'), given)
    assert report.prefix == prefix
    assert not report.missing and not report.unexpected
    assert equal(
        {k: v for k, v in net.state_dict().items() if 'tracked' not in k},
        {k: v for k, v in source.state_dict().items() if 'tracked' not in k})


def test_prefix_that_is_ambiguous(tmp_path):
    """A mean teacher's file: taken is the first, and the other named."""
    state = {f'{who}.{k}': v for who in ('student', 'teacher')
             for k, v in dense().state_dict().items()}
    report = load_pretrained(
        ResNet(**SMALL), save(state, tmp_path / 'x.pth'))
    assert report.prefix == 'student.'
    assert report.other_prefixes == ['teacher.']
    assert 'other prefixes (1): teacher.' in str(report)


def test_wrong_prefix_names_the_right_one(tmp_path):
    path = save({f'backbone.{k}': v for k, v in dense().state_dict().items()},
                tmp_path / 'x.pth')
    with pytest.raises(ValueError, match="'neck.'; .* prefix='backbone.'"):
        load_pretrained(ResNet(**SMALL), path, prefix='neck')


def test_nothing_matched(tmp_path):
    path = save({'features.0.kernel': torch.ones(1)}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='x.pth has no weights for ResNet.*'
                       'features.0.kernel.*conv1.weight'):
        load_pretrained(ResNet(**SMALL), path)


def test_missing_and_unexpected(tmp_path):
    state = dense().state_dict()
    del state['layer1.0.conv1.weight']
    state['layer9.weight'] = torch.ones(1)
    report = load_pretrained(
        ResNet(**SMALL), save(state, tmp_path / 'x.pth'))
    assert report.missing == ['layer1.0.conv1.weight']
    assert report.unexpected == ['layer9.weight']
    text = str(report)
    assert f'{len(report.matched)} of {len(report.matched) + 1} tens' in text
    assert 'missing in the file (1): layer1.0.conv1.weight' in text
    assert 'unexpected, not loaded (1): layer9.weight' in text


def test_step_counters_are_not_missed(tmp_path):
    """Checkpoints from before torch 0.4.1 have none."""
    state = {k: v for k, v in dense().state_dict().items()
             if 'num_batches_tracked' not in k}
    path = save(state, tmp_path / 'x.pth')
    assert not load_pretrained(ResNet(**SMALL), path).missing


class Classifying(ResNet):

    def __init__(self, classes):
        super().__init__(**SMALL)
        self.fc = nn.Linear(128, classes)


def test_a_classifier_is_loaded_where_there_is_one(tmp_path):
    state = Classifying(5).state_dict()
    path = save(state, tmp_path / 'x.pth')
    net = Classifying(5)
    report = load_pretrained(net, path)
    assert not report.missing and not report.unexpected
    assert torch.equal(net.fc.weight, state['fc.weight'])
    assert load_pretrained(ResNet(**SMALL), path).unexpected == []
    with pytest.raises(ValueError, match=r'fc.weight \(5, 128\) in the file'):
        load_pretrained(Classifying(7), path)


@pytest.fixture
def wrong_stem(tmp_path):
    state = dense().state_dict()
    state['conv1.weight'] = torch.ones(16, 4, 7, 7)
    return save(state, tmp_path / 'x.pth')


def test_wrong_shape_is_an_error(wrong_stem):
    net = dense()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match=r'1 tensors .* conv1.weight '
                       r'\(16, 4, 7, 7\) in the file, \(16, 3, 7, 7\) in'):
        load_pretrained(net, wrong_stem)
    assert equal(net.state_dict(), before)


def test_wrong_shape_skipped(wrong_stem):
    report = load_pretrained(
        ResNet(**SMALL), wrong_stem, skip_wrong_shapes=True)
    assert report.missing == ['conv1.weight']
    assert list(report.wrong_shape) == ['conv1.weight']
    assert 'wrong shape, not loaded (1): conv1.weight (16, 4' in str(report)


# backbones


def initialised(path, cls=SCConvResNet, **options):
    init_cfg = dict(type='Pretrained', checkpoint=path) if path else None
    options = {**dict(norm_eval=False, init_cfg=init_cfg), **options}
    net = cls(**SMALL, **options)
    net.init_weights()
    return net


@pytest.fixture
def dense_file(tmp_path):
    return save(dense().state_dict(), tmp_path / 'dense.pth')


@pytest.fixture
def scconv_file(tmp_path):
    """A detector's, as a training leaves it."""
    state = SCConvResNet(**SMALL).state_dict()
    return save(
        dict(state_dict={f'backbone.{k}': v for k, v in state.items()}),
        tmp_path / 'scconv.pth')


@pytest.mark.parametrize('swapped_init,text', [
    ('random', 'are randomly initialised; 8 tensors'),
    ('fit', 'are not in the file; they are fitted to its dense ones when'),
])
@pytest.mark.parametrize('cls', [SCConvResNet, TiedConvResNet])
def test_dense_weights_leave_the_swapped_ones(cls, swapped_init, text,
                                              dense_file, log):
    """TiedConv's weight has the dense one's name, and another shape."""
    report = initialised(
        dense_file, cls, swapped_init=swapped_init).load_report
    assert len(report.random_convs()) == len(report.dense) == 8
    assert not report.unexpected and not report.wrong_shape
    assert all('.conv2.' in key for key in report.missing)
    lines = '\n'.join(line for _, line in log)
    assert f'swapped convolutions: 8 of 8 {text}' in lines
    assert not warnings_in(log)


def test_own_weights_leave_nothing(scconv_file, log):
    net = initialised(scconv_file, frozen_stages=4, norm_eval=True).train()
    assert not net.load_report.missing
    assert any('swapped convolutions: 0 of 8' in text for _, text in log)
    assert any("prefix in the file: 'backbone.'" in text for _, text in log)
    assert not warnings_in(log)


def test_weights_of_another_option(scconv_file):
    with pytest.raises(ValueError, match='layer1.0.conv2.* in the module'):
        initialised(scconv_file, conv2_cfg=dict(alpha=0.75))


def test_options_of_the_config_arrive(wrong_stem):
    net = initialised(None, init_cfg=[
        dict(type='Kaiming', layer='Conv2d'),
        dict(
            type='Pretrained',
            checkpoint=wrong_stem,
            prefix='',
            map_location='cpu',
            skip_wrong_shapes=True,
            _scope_='mmdet')  # as inherited from an mmdet:: base
    ])
    assert list(net.load_report.wrong_shape) == ['conv1.weight']


class Parent(BaseModule):
    """Its child has an initialiser of its own."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.child = BaseModule(dict(type='Constant', layer='Linear', val=7.))
        self.child.linear = nn.Linear(1, 1)


@pytest.mark.parametrize('others', [
    [], [dict(type='Constant', layer='Linear', val=5.)]])
def test_weights_are_loaded_last(others, tmp_path):
    """After the initialisers of the module and of its children."""
    path = save({'child.linear.weight': torch.full((1, 1), 2.),
                 'child.linear.bias': torch.zeros(1)}, tmp_path / 'x.pth')
    parent = Parent([dict(type='Pretrained', checkpoint=path), *others])
    use_checked_pretrained(parent)
    parent.init_weights()
    assert parent.child.linear.weight.item() == 2.
    assert len(parent.load_report.matched) == 2


def test_other_backbones_by_name(scconv_file, dense_file):
    net = ResNet(**SMALL, init_cfg=dict(
        type='CheckedPretrained', checkpoint=dense_file))
    net.init_weights()
    assert not net.load_report.missing
    assert equal({k: v for k, v in net.state_dict().items()
                  if 'tracked' not in k},
                 {k: v for k, v in read_state_dict(dense_file).items()
                  if 'tracked' not in k})


@pytest.mark.parametrize('options,stages', [
    (dict(frozen_stages=0), r'stem \(3 of 3 parameters\) that'),
    (dict(frozen_stages=0, deep_stem=True), r'stem \(9 of 9'),
    (dict(frozen_stages=1), r'stem \(3 of 3 .*\), layer1 \((\d+) of \1 '),
])
def test_frozen_without_any_weights(options, stages, log):
    net = initialised(None, **options)
    with pytest.raises(FrozenWeightsError, match='FROZEN WITHOUT WEIGHTS: .* '
                       f'{stages}.* Set frozen_stages=-1'):
        net.train()
    net.eval()
    assert not warnings_in(log)  # of what load_from may still fill


def test_the_tools_print_what_is_frozen_in_one_line():
    assert issubclass(FrozenWeightsError, UserError)
    assert issubclass(FrozenWeightsError, ValueError)


def test_frozen_random_swapped_convolutions(dense_file):
    with pytest.raises(ValueError, match='FROZEN WITHOUT WEIGHTS') as error:
        initialised(
            dense_file, frozen_stages=2, swapped_init='random').train()
    said = str(error.value)
    assert 'layer1 (' in said and 'layer2 (' in said
    assert 'stem (' not in said and 'layer3 (' not in said


@pytest.mark.parametrize('options', [
    dict(frozen_stages=-1),
    dict(frozen_stages=1, stages_with_swap=(False, True, True, True)),
])
def test_nothing_frozen_without_weights(options, dense_file, log):
    initialised(dense_file, swapped_init='random', **options).train()
    assert not warnings_in(log)


def test_norm_eval_without_statistics(dense_file):
    with pytest.raises(ValueError, match='STATISTICS: norm_eval=True of '
                       'SCConvResNet keeps 32 BatchNorms'):
        initialised(
            dense_file, norm_eval=True, swapped_init='random').train()


def test_what_is_frozen_without_weights_may_be_allowed(log):
    initialised(None, frozen_stages=1, norm_eval=True,
                freeze_without_weights=True).train()
    assert 'FROZEN WITHOUT WEIGHTS' in warnings_in(log)
    assert 'NORM_EVAL WITHOUT STATISTICS' in warnings_in(log)


def test_a_backbone_outside_a_training_may_be_frozen():
    """Benchmarks and FLOP counts build one, and initialise nothing."""
    SCConvResNet(**SMALL, frozen_stages=1, norm_eval=True).train()


def of_torch(detector, path):
    detector.load_state_dict(torch.load(path)['state_dict'], strict=False)


@pytest.mark.parametrize('load', [load_checkpoint, of_torch])
def test_weights_that_come_after_the_initialisation(load, dense_file,
                                                    scconv_file, tmp_path):
    """``load_from`` and ``--resume``: MMEngine loads into the detector."""
    detector = nn.Module()
    detector.backbone = initialised(
        dense_file, frozen_stages=4, norm_eval=True)
    state = torch.load(scconv_file)['state_dict']
    part = {k: v for k, v in state.items() if 'layer4' not in k}
    load(detector, save(dict(state_dict=part), tmp_path / 'part.pth'))
    with pytest.raises(ValueError, match=r'freezes layer4 \('):
        detector.train()
    load(detector, scconv_file)
    detector.train()
    copy.deepcopy(detector).train()


def test_weights_of_another_shape_fill_nothing(scconv_file, tmp_path):
    detector = nn.Module()
    detector.backbone = initialised(scconv_file, frozen_stages=0)
    detector.backbone._filled.clear()
    state = torch.load(scconv_file)['state_dict']
    state['backbone.conv1.weight'] = torch.ones(16, 1, 7, 7)
    load_checkpoint(
        detector, save(dict(state_dict=state), tmp_path / 'x.pth'))
    with pytest.raises(ValueError, match=r'freezes stem \(1 of 3'):
        detector.train()
