"""Generated docs are those of the list of rows."""
import pytest
import yaml
from conftest import REPO

from mmdet_scconv.analysis.model_index import (
    METAFILE,
    MODEL_INDEX,
    README,
    generated_files,
)
from mmdet_scconv.analysis.rows import TABLES


@pytest.mark.parametrize('path', [
    README, METAFILE, MODEL_INDEX, 'configs/imagenet/README.md',
    'configs/cifar/README.md'
])
def test_generated_files_are_up_to_date(path):
    text = (REPO / path).read_text(encoding='utf-8')
    assert text == generated_files()[path], \
        'run python tools/misc/make_metafile.py'


def test_model_index_leads_to_every_row():
    index = yaml.safe_load((REPO / MODEL_INDEX).read_text())
    models = [
        model for path in index['Import']
        for model in yaml.safe_load((REPO / path).read_text())['Models']
    ]
    configs = [
        TABLES[name].config.format(slug=row.slug) for name in ('voc', 'coco')
        for row in TABLES[name].rows
    ]
    assert [model['Config'] for model in models] == configs
    assert all((REPO / config).is_file() for config in configs)
    # nothing of ours is claimed before it was measured
    assert not any(model['Results'] for model in models)
