import csv
import json

import pytest

from mmdet_scconv.visualization.curves import Curves, read_curve


@pytest.fixture
def curves(tmp_path):
    found = []
    for name, seed, scores in (('a', 0, (0.1, 0.3)), ('a', 1, (0.2, 0.5)),
                               ('b', 0, (0.6, ))):
        folder = tmp_path / name / str(seed) / 'time' / 'vis_data'
        folder.mkdir(parents=True)
        lines = [dict(loss=1., step=5)] + [
            {'coco/bbox_mAP': score, 'step': 10 * (i + 1)}
            for i, score in enumerate(scores)]
        (folder / 'scalars.json').write_text(
            '\n'.join(map(json.dumps, lines)))
        found.append(read_curve(name, seed, str(tmp_path / name / str(seed))))
    return Curves(found, dict(a='random', b='fitted'), 0.7, 'dense')


def test_markdown(curves):
    assert curves.markdown().splitlines() == [
        '| iterations | random | fitted |', '| --- | ---: | ---: |',
        '| 10 | 15.00 ± 7.07 (2) | 60.00 |', '| 20 | 40.00 ± 14.14 (2) | - |'
    ]


def test_files(curves, tmp_path):
    paths = curves.write(str(tmp_path))
    with open(paths[0], newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(r['start'], r['seed'], r['iteration'], r['coco/bbox_mAP'])
            for r in rows[-2:]] == [('a', '1', '20', '0.5'),
                                    ('b', '0', '10', '0.6')]
    assert 'dense: 70.00' in (tmp_path / 'curves.md').read_text()
    assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')


def test_figure(curves):
    axes, = curves.figure().axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines['random']) == pytest.approx([15, 40])
    assert list(lines['dense']) == [70, 70]
