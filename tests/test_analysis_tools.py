"""The command lines of tools/analysis_tools that draw: files and errors.

In this process, which has imported MMDetection already; test_tools.py runs
command lines as a user does.
"""
import csv
import runpy
import sys

import pytest
import torch
from conftest import REPO
from mmdet.evaluation import DumpDetResults
from mmdet.registry import MODELS

from mmdet_scconv.config import read_config

CONFIG = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
DENSE = '''
_base_ = {base!r}
model = dict(backbone=dict(type='ResNet'))
'''


@pytest.fixture
def tool(tmp_path, data_home, monkeypatch, capsys):
    """Runs a tool in an empty folder with the data in it."""
    (tmp_path / 'data').symlink_to(data_home / 'data')
    monkeypatch.chdir(tmp_path)

    def run(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        runpy.run_path(
            str(REPO / 'tools/analysis_tools' / name), run_name='__main__')
        return capsys.readouterr().out

    return run


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    model = MODELS.build(read_config(str(CONFIG)).model)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def sizes(folder):
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_feature_maps(tool, tmp_path, checkpoint):
    dense = tmp_path / 'dense.py'
    dense.write_text(DENSE.format(base=str(CONFIG)))
    weights = tmp_path / 'dense.pth'
    torch.save(MODELS.build(read_config(str(dense)).model).state_dict(),
               weights)
    output = tool('feature_maps.py', 'data/digits/JPEGImages/val_0000.jpg',
                  CONFIG, checkpoint, '--stage', 2, '--block', 1,
                  '--channels', 2, '--dense', dense, weights)
    written = sizes(tmp_path / 'feature_maps')
    assert set(written) == {f'{name}.{end}' for name in ('stage', 'sru',
                                                         'gate')
                            for end in ('png', 'svg')}
    assert min(written.values()) > 1000
    assert 'layer2.0.conv2.sru: ' in output and 'random' not in output
    assert b'dense.py' in (tmp_path / 'feature_maps/stage.svg').read_bytes()


@pytest.mark.parametrize('args,message', [
    (['nothing.jpg', CONFIG], 'no such image: nothing.jpg'),
    (['data/digits/JPEGImages/val_0000.jpg', CONFIG, '--stage', '7'],
     'stage=7 is not valid'),
    (['data/digits/JPEGImages/val_0000.jpg', CONFIG, '--block', '3'],
     '--block 3: stage 1 has SRUs in 2 blocks'),
    (['data/digits/JPEGImages/val_0000.jpg', CONFIG, 'nothing.pth'],
     'nothing.pth'),
])
def test_feature_maps_of_nothing(tool, args, message):
    with pytest.raises(SystemExit, match=f'^feature_maps: .*{message}'):
        tool('feature_maps.py', *args)


def test_checkpoint_of_another_model(tool, tmp_path, checkpoint):
    dense = tmp_path / 'dense.py'
    dense.write_text(DENSE.format(base=str(CONFIG)))
    with pytest.raises(SystemExit, match='is of another model: .*conv2'):
        tool('redundancy.py', 'data/digits/JPEGImages', '--model', dense,
             checkpoint)


def test_redundancy(tool, tmp_path, checkpoint):
    tool('redundancy.py', 'data/digits/JPEGImages', '--number', 2, '--model',
         CONFIG, checkpoint, '--model', CONFIG)
    assert set(sizes(tmp_path / 'redundancy')) == {
        'redundancy.csv', 'redundancy.png', 'redundancy.svg'
    }
    with open(tmp_path / 'redundancy/redundancy.csv') as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 16
    assert {row['model'] for row in rows} == {
        CONFIG.stem, f'{CONFIG.stem} (random weights)'
    }
    assert rows[0]['layer'] == 'layer1.0.conv2'
    assert 'Roy and Vetterli' in rows[0]['source']
    assert all(0 <= float(row['redundancy']) <= 1 for row in rows)


def test_pr_curves(tool, tmp_path):
    dump = DumpDetResults(out_file_path=str(tmp_path / 'found.pkl'))
    box = dict(bboxes=torch.tensor([[5., 5., 50., 50.]]),
               scores=torch.tensor([0.5]), labels=torch.tensor([3]))
    dump.process({}, [dict(img_id=i, pred_instances=dict(box))
                      for i in range(2)])
    dump.evaluate(2)
    tool('pr_curves.py', CONFIG, 'found.pkl', '--out-dir', 'out')
    assert set(sizes(tmp_path / 'out')) == {
        'pr_curves.csv', 'pr_curves.png', 'pr_curves.svg'
    }
    with pytest.raises(SystemExit, match='^pr_curves: iou=0.4 is not valid'):
        tool('pr_curves.py', CONFIG, 'found.pkl', '--iou', 0.4)


def test_tradeoff(tool, tmp_path):
    tool('tradeoff.py', 'coco', '--paper-costs')
    assert {'tradeoff_coco.png', 'tradeoff_coco.svg'} <= set(sizes(tmp_path))
    with pytest.raises(SystemExit, match='--metric .AP. is not valid'):
        tool('tradeoff.py', 'coco', '--metric', 'AP')
    with pytest.raises(SystemExit, match='paper has no .* for digits'):
        tool('tradeoff.py', 'digits')


def test_training_curves_and_report_of_an_empty_folder(tool, tmp_path):
    (tmp_path / 'run').mkdir()
    with pytest.raises(SystemExit, match='run has no logged values'):
        tool('training_curves.py', 'run')
    output = tool('report.py', 'run')
    assert 'Config: missing. run holds no config' in output
    assert (tmp_path / 'run/report.html').is_file()
    with pytest.raises(SystemExit, match='no such folder: nothing'):
        tool('report.py', 'nothing')
