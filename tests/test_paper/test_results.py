"""The table of results."""
from pathlib import Path

import pytest

from mmdet_scconv.paper.complexity import count_classifier
from mmdet_scconv.paper.results import TableResults, mean_and_spread
from mmdet_scconv.paper.table import Row, Table
from mmdet_scconv.paper.work_dirs import Result


@pytest.mark.parametrize('values,expected', [
    ([], '-'),
    ([0.5], '50.00'),
    ([0.5, 0.52, 0.54], '52.00 ± 2.00 (3)'),
])
def test_mean_and_spread(values, expected):
    assert mean_and_spread(values, 100) == expected


def test_table_of_results(tmp_path):
    metrics = {'AP@.5': 'coco/bbox_mAP_50', 'mAP': 'coco/bbox_mAP'}
    backbone = dict(type='SCConvResNet', depth=18)
    table = Table('Table', (64, 64), metrics, (
        Row('A', backbone, 1., 2., (40.,)), Row('B', backbone, note='so'),
        Row('C', dict(type='Darknet'))))
    results = TableResults(table, dict(
        A=[Result('A', 'a.py', seed, 'w', 'finished',
                  {'coco/bbox_mAP_50': 0.4 + seed / 10, 'coco/bbox_mAP': 0.2},
                  seconds=1.) for seed in (0, 1)],
        B=[Result('B', 'b.py', 0, 'w', '1 of 3 epochs')],
        C=[Result('C', 'c.py', 0, 'w', 'new',
                  model=dict(type='YOLOV3', backbone=dict(type='Darknet')))]))
    columns, (a, b, c) = results.summary()
    assert columns == [
        'row', 'AP@.5', '(paper)', 'mAP', 'Params', 'FLOPs', 's/iter'
    ]
    assert a[:4] == ['A', '45.00 ± 7.07 (2)', 40., '20.00 ± 0.00 (2)']
    assert a[-1] == '1.000'
    assert b[:4] == ['B', '-', '-', '-']
    # a backbone that no classifier counts with
    assert c[-3:] == ['-', '-', '-']
    paths = results.write(str(tmp_path))
    assert all(Path(path).stat().st_size > 100 for path in paths)
    lines = Path(paths[0]).read_text().splitlines()
    assert len(lines) == 5
    assert lines[3].startswith('Table,B,b.py,0,1 of 3 epochs,,')
    assert 'B: so.' in Path(paths[1]).read_text()


def narrow(base_channels, kind='SCConvResNet'):
    return dict(
        type='FasterRCNN',
        backbone=dict(type=kind, depth=18, base_channels=base_channels))


def sizes_in(results, folder):
    """Params and FLOPs: of the rows in results.md, of the runs in
    results.csv."""
    csv, markdown, *_ = map(Path, results.write(str(folder)))
    header, *runs = (line.split(',') for line in
                     csv.read_text().splitlines())
    columns = [header.index(name) for name in ('params_m', 'flops_g')]
    table = [line.split(' | ') for line in markdown.read_text().splitlines()
             if line.startswith('| R')]
    return ([row[-3:-1] for row in table],
            [[run[i] for i in columns] for run in runs])


def test_sizes_are_those_of_the_runs_own_config(tmp_path):
    """A run whose options make the network narrower."""
    row = Row('Row', dict(type='SCConvResNet', depth=18))
    table = Table('Table', (64, 64), {'mAP': 'coco/bbox_mAP'}, (row, ))

    def sizes(*models):
        return sizes_in(TableResults(table, dict(Row=[
            Result('Row', 'a.py', seed, 'w', 'finished', model=model)
            for seed, model in enumerate(models)])), tmp_path)

    count = count_classifier(narrow(16)['backbone'], (64, 64))
    rows, runs = sizes(narrow(16), narrow(16))
    assert rows == [[f'{count.params_without_group_norm / 1e6:.4g}',
                     f'{count.thop / 1e9:.4g}']]
    assert runs == 2 * [[str(count.params_without_group_norm / 1e6),
                         str(count.thop / 1e9)]]
    # nothing is said of a row without a run, or of runs that differ
    assert sizes() == ([['-', '-']], [])
    rows, runs = sizes(narrow(16), narrow(32))
    assert rows == [['-', '-']] and runs[0] != runs[1]


def test_size_of_a_classifier_is_with_its_own_classes():
    backbone = narrow(16)['backbone']
    table = Table('Table', (32, 32), {}, (Row('Row', backbone), ))
    results = TableResults(table, dict(Row=[Result(
        'Row', 'a.py', 0, 'w', 'finished', model=dict(
            type='ImageClassifier', backbone=backbone, num_classes=10))]))
    count = count_classifier(backbone, (32, 32), num_classes=10)
    assert results.size(table.rows[0])[0] == (
        count.params_without_group_norm / 1e6)
