import os.path as osp

import pytest
import torch
from mmengine.config import Config

from mmdet_scconv.cli import (
    check_checkpoint,
    picture_names,
    protect_training,
    set_resume,
    tta_settings,
)

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='PackDetInputs', meta_keys=('img_id', 'instances'))
]


def test_tta_shows_the_unflipped_view_first():
    """The evaluation is given the annotated boxes of the first view."""
    *transforms, tta = tta_settings(PIPELINE)['tta_pipeline']
    assert transforms == PIPELINE[:1]
    flips, (pack, ) = tta['transforms']
    assert [flip['prob'] for flip in flips] == [0, 1]
    assert pack['meta_keys'] == ('img_id', 'instances', 'flip',
                                 'flip_direction')
    assert PIPELINE[1]['meta_keys'] == ('img_id', 'instances')


def test_tta_needs_a_pipeline_that_packs():
    with pytest.raises(ValueError, match="ends in 'LoadImageFromFile'"):
        tta_settings(PIPELINE[:1])


def types(cfg):
    return {name: hook.type for name, hook in cfg.default_hooks.items()}


def test_any_config_is_protected():
    cfg = Config(dict(default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', max_keep_ckpts=2))))
    protect_training(cfg)
    assert types(cfg) == dict(
        checkpoint='SafeCheckpointHook',
        check_loss='CheckLossHook',
        epoch_seed='EpochSeedHook')
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 2
    assert cfg.custom_imports.imports == ['mmdet_scconv']
    empty = Config()
    protect_training(empty)
    assert types(empty) == types(cfg)


@pytest.mark.parametrize('deterministic', [True, False])
def test_workers_of_a_deterministic_run_do_not_persist(deterministic):
    cfg = Config(
        dict(
            randomness=dict(deterministic=deterministic),
            train_dataloader=dict(persistent_workers=True)))
    protect_training(cfg)
    assert cfg.train_dataloader.persistent_workers is not deterministic


def test_own_hooks_stay():
    cfg = Config(
        dict(
            default_hooks=dict(
                checkpoint=dict(type='Mine'), check_loss=dict(type='Mine')),
            custom_imports=dict(imports=['mine', 'mmdet_scconv'])))
    protect_training(cfg)
    assert types(cfg) == dict(
        checkpoint='Mine', check_loss='Mine', epoch_seed='EpochSeedHook')
    assert cfg.custom_imports.imports == ['mine', 'mmdet_scconv']


def test_resume_without_a_checkpoint_starts_as_the_config_says(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth'))
    set_resume(cfg, 'auto')
    assert not cfg.resume and cfg.load_from == 'pretrained.pth'


def test_resume_from_a_file_that_is_none(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match='weights.pth cannot be resumed'):
        set_resume(Config(), str(tmp_path / 'weights.pth'))


def test_each_image_has_a_picture():
    assert picture_names(['a/x.jpg', 'y.jpg', 'b/x.jpg', 'b/c/X.jpg']) == [
        osp.join('a', 'x.jpg'), 'y.jpg', osp.join('b', 'x.jpg'),
        osp.join('b', 'c', 'X.jpg')
    ]
    assert picture_names(['a/x.jpg', 'a/y.jpg']) == ['x.jpg', 'y.jpg']
    assert picture_names(['a/x.jpg', './a/x.jpg']) == ['x.jpg', 'x.jpg']


def test_a_damaged_checkpoint_ends_a_tool(tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'half')
    with pytest.raises(SystemExit, match='a.pth is damaged'):
        check_checkpoint(str(tmp_path / 'a.pth'))
