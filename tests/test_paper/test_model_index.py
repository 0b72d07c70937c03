"""Generated docs are those of the list of rows."""
import pytest
import yaml
from conftest import REPO

from mmdet_scconv.paper.model_index import (
    METAFILE,
    MODEL_INDEX,
    README,
    generated_files,
    table_text,
)
from mmdet_scconv.paper.rows import TABLES, TOP1, Row, Table
from mmdet_scconv.paper.table import notes


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


def test_a_system_that_is_not_in_the_paper():
    row = Row('Mine', dict(type='CIFARResNet', depth=56), slug='mine')
    table = Table('Table 9', (32, 32), TOP1, (row, ),
                  'configs/cifar/{slug}_200e_cifar10.py')
    line, = (line for line in table_text(table).splitlines()
             if line.startswith('| Mine'))
    cells = [cell.strip() for cell in line.split('|')[1:-1]]
    assert [cells[i] for i in (2, 4, 5, 6)] == ['', '', '', '']


def test_rows_with_the_same_note_share_it():
    rows = [
        Row(name, {}, note=note)
        for name, note in (('A', 'one'), ('B', ''), ('C', 'two'), ('D', 'one'),
                           ('A', 'one'))
    ]
    assert notes(rows) == ['A, D: one.', 'C: two.']
