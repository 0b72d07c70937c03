import pytest

from mmdet_scconv.cli import tta_settings

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
