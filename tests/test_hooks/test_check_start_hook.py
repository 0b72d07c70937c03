"""The checkpoint that a run starts from is checked, with any train.py."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from toy import Toy, toy_runner

from mmdet_scconv.backbones import SCConvResNet
from mmdet_scconv.errors import CheckpointError
from mmdet_scconv.hooks import CheckStartHook, check_start_hook
from mmdet_scconv.hooks.check_start_hook import log_start, resume_notes


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os
        return os.mkdir, (str(self.path), )


def start(work_dir, resume=False, load_from=None, **options):
    """A training whose start alone is checked."""
    runner = toy_runner(work_dir, **options)
    runner._resume, runner._load_from = resume, load_from
    runner.train_loop  # noqa: B018 (a property that builds it)
    CheckStartHook().before_run(runner)
    return runner


def trained(work_dir, **options):
    toy_runner(work_dir, **options).train()


def test_loaded_weights_that_could_run_code(tmp_path):
    path = str(tmp_path / 'evil.pth')
    torch.save(dict(Toy().state_dict(), meta=Evil(tmp_path / 'ran')), path)
    with pytest.raises(CheckpointError, match='evil.pth is not.*mkdir'):
        start(tmp_path, load_from=path)
    assert not (tmp_path / 'ran').exists()


def test_a_resumed_file_without_training_state(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='weights.pth cannot be resumed'):
        start(tmp_path, resume=True, load_from=str(tmp_path / 'weights.pth'))


def test_a_damaged_checkpoint_is_skipped(tmp_path):
    trained(tmp_path)
    (tmp_path / 'epoch_3.pth').write_bytes(b'half')
    with pytest.warns(UserWarning, match='epoch_3.pth is damaged'):
        runner = start(tmp_path, resume=True)
    assert runner._load_from == str(tmp_path / 'epoch_2.pth')


def test_nothing_to_resume_from(tmp_path):
    runner = start(tmp_path, resume=True)
    assert not runner._resume and runner._load_from is None


def test_weights_without_code_are_loaded(tmp_path):
    torch.save(Toy().state_dict(), tmp_path / 'a.pth')
    runner = start(tmp_path, load_from=str(tmp_path / 'a.pth'))
    assert not runner._resume
    assert runner._load_from == str(tmp_path / 'a.pth')


@pytest.fixture
def log(monkeypatch):
    """Pairs of level and line."""
    said = []
    for level in ('info', 'warning'):
        monkeypatch.setattr(
            logging.Logger, level,
            lambda self, text, *args, level=level: said.append((level, text)))
    return said


@pytest.mark.parametrize('content,message', [
    (lambda w: {f'encoder.{key}': value for key, value in w.items()},
     "0 of 2 tensors of Toy fit: the names in the file begin with 'encoder.', "
     r"those of the model with 'linear.'"),
    (lambda w: dict(model=w), "the names in the file begin with 'model', "),
    (lambda w: {key: torch.ones(3, 3) for key in w},
     r'2 have another shape, the first: linear.weight is \(3, 3\) in the '
     r'file, \(1, 2\) in the model'),
])
def test_weights_of_which_nothing_fits(tmp_path, content, message):
    torch.save(content(Toy().state_dict()), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=message) as error:
        start(tmp_path, load_from=str(tmp_path / 'a.pth'))
    said = str(error.value)
    assert said.startswith(f'load_from={tmp_path / "a.pth"}: 0 of 2 tensors')
    assert 'load_from needs the names of the whole model' in said
    assert '\n' not in said


def test_what_fits_is_logged(tmp_path, log):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict=Toy().state_dict()), path)
    start(tmp_path, load_from=path)
    assert [pair for pair in log if 'load_from' in pair[1]] == [
        ('info', f'Toy from load_from={path}: 2 of 2 tensors are loaded, 0 '
         'are not in the file, 0 have another shape')]


def test_other_shapes_are_logged(tmp_path, log):
    path = str(tmp_path / 'a.pth')
    torch.save({'linear.weight': torch.ones(3, 2),
                'linear.bias': torch.ones(1)}, path)
    start(tmp_path, load_from=path)
    (_, line), (level, warning) = [
        pair for pair in log if 'load_from' in pair[1]]
    assert '1 of 2 tensors are loaded, 0 are not in the ' in line
    assert line.endswith('file, 1 have another shape')
    assert level == 'warning'
    assert ('1 tensor is not loaded, as its shape differs' in warning
            and 'linear.weight is (3, 2) in the file' in warning)


def test_dense_convolutions_are_logged(tmp_path, log):
    """They are not loaded, but their replacements are fitted to them."""
    model = SCConvResNet(18, base_channels=16)
    dense = ResNet(18, base_channels=16).state_dict()
    log_start(model, dense, 'a.pth', logging.getLogger())
    (level, line), = log
    assert level == 'info'
    assert '8 swapped convolutions: the file has the dense ones' in line


def test_a_dense_checkpoint_is_not_tested():
    """Its swapped convolutions would be random."""
    model = SCConvResNet(18, base_channels=16)
    dense = ResNet(18, base_channels=16).state_dict()
    with pytest.raises(CheckpointError, match='a.pth is of the dense network'):
        log_start(model, dense, 'a.pth', logging.getLogger(), testing=True)


@pytest.mark.parametrize('testing', [False, True])
def test_random_weights_of_a_test_are_warned_of(testing, log):
    model = SCConvResNet(18, base_channels=16)
    weights = model.state_dict()
    del weights['layer4.0.conv1.weight']
    log_start(model, weights, 'a.pth', logging.getLogger(), testing)
    warnings = [line for level, line in log if level == 'warning']
    assert len(warnings) == testing
    if testing:
        assert 'RANDOMLY INITIALISED are 1: layer4.0.conv1.weight' in \
            warnings[0]


def test_a_test_by_any_runner_is_checked(tmp_path, log):
    runner = toy_runner(tmp_path)
    torch.save({'linear.weight': Toy().linear.weight}, tmp_path / 'a.pth')
    runner._load_from = str(tmp_path / 'a.pth')
    CheckStartHook().before_run(runner)
    assert any(level == 'warning' and 'RANDOMLY INITIALISED are 1' in line
               for level, line in log)


def test_other_storage_is_left_to_mmengine(tmp_path):
    assert start(tmp_path, load_from='s3://a.pth')._load_from == 's3://a.pth'


@pytest.mark.parametrize('seed,expected', [(None, 5), (7, 7)])
@pytest.mark.parametrize('max_iters', [None, 6])
def test_resumed_with_the_seed_it_began_with(tmp_path, seed, expected,
                                             max_iters):
    """Also the sampler, which is built before MMEngine reads the seed."""
    by_epoch = max_iters is None
    checkpoint = dict(type='CheckpointHook', by_epoch=by_epoch, interval=1)
    options = dict(max_iters=max_iters, checkpoint=checkpoint)
    trained(tmp_path, randomness=dict(seed=5), **options)
    runner = start(tmp_path, True, randomness=dict(seed=seed), **options)
    assert runner.seed == expected
    assert runner.train_dataloader.sampler.seed == expected
    if not by_epoch:
        assert runner.train_loop.dataloader_iterator._dataloader is \
            runner.train_dataloader


SAVED = dict(meta=dict(epoch=4, iter=40))
SCHEDULE = [dict(type='CosineAnnealingLR')]


@pytest.mark.parametrize('known,train_cfg,message', [
    (dict(max_epochs=4), dict(max_epochs=4),
     'epoch_4.pth is of epoch 4 of 4: nothing is left to train'),
    (dict(max_epochs=4), dict(max_epochs=6),
     'training with max_epochs=4, this one has 6: the learning rate'),
    (dict(max_iters=40), dict(max_iters=40), 'is of iter 40 of 40'),
    (dict(max_epochs=6, max_iters=60), dict(max_epochs=6), None),
    (dict(), dict(max_epochs=6), None),
])
def test_resumed_after_the_end(known, train_cfg, message):
    runner = SimpleNamespace(
        _load_from='epoch_4.pth', cfg=Config(dict(train_cfg=train_cfg)),
        param_schedulers=SCHEDULE)
    notes = list(resume_notes(
        runner, dict(SAVED, message_hub=dict(runtime_info=known))))
    assert message in notes[0] if message else notes == []


def test_notes_are_logged(tmp_path, monkeypatch):
    trained(tmp_path)
    said = []
    monkeypatch.setattr(check_start_hook, 'resume_notes',
                        lambda runner, checkpoint: ['nothing is left'])
    monkeypatch.setattr(logging.Logger, 'warning',
                        lambda self, text, *args: said.append(text))
    start(tmp_path, resume=True)
    assert 'nothing is left' in said


@pytest.mark.parametrize('found,message', [
    (['epoch_1.pth', 'epoch_1.pth'], None),
    ([None, None], None),
    (['epoch_1.pth', None],
     'finds epoch_1.pth on the first host and none on another'),
    ([None, 'epoch_1.pth'],
     'finds no checkpoint on the first host and epoch_1.pth on another'),
])
def test_all_hosts_start_from_the_same(monkeypatch, found, message):
    monkeypatch.setattr(check_start_hook, 'all_gather_object',
                        lambda name: found)
    if message is None:
        return check_start_hook.check_same_start(None, 'run')
    with pytest.raises(CheckpointError, match=message):
        check_start_hook.check_same_start(None, 'run')
