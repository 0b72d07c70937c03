"""Reports of a whole work dir, of broken ones, and in a browser."""
import base64
import json
import os
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_scconv.visualization.predictions import write_predictions
from mmdet_scconv.visualization.report import build_report
from mmdet_scconv.visualization.report_data import Options, ReportData
from mmdet_scconv.visualization.report_sections import SECTIONS

CONFIG = REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
HOSTILE = '<img src=x onerror=alert(1)>&"\''
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser',
                                    'google-chrome', 'chrome'))), None)
LOG = '''\
2026/01/01 00:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    CUDA available: False
    PyTorch: 9.9.9

Runtime environment:
    seed: 3
------------------------------------------------------------
2026/01/01 00:00:01 - mmengine - INFO - Epoch(train) [1][2/2] lr: 1
'''


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory, data_home):
    """A work dir of tools/train.py, of an untrained network and two images,
    with file and class names that must be escaped."""
    folder = tmp_path_factory.mktemp('report') / 'run <b>&'
    logs = folder / '20260101_000000'
    (logs / 'vis_data').mkdir(parents=True)
    cfg = Config.fromfile(CONFIG)
    data = folder.parent / 'data'
    shutil.copytree(data_home / 'data/digits', data)
    ann_file = data / 'annotations/instances_val.json'
    annotations = json.loads(ann_file.read_text())
    name = annotations['images'][0]['file_name']
    annotations['images'][0]['file_name'] = f'$x^2$ {HOSTILE[:20]}.jpg'
    (data / 'JPEGImages' / name).rename(
        data / 'JPEGImages' / f'$x^2$ {HOSTILE[:20]}.jpg')
    annotations['categories'][0]['name'] = HOSTILE
    ann_file.write_text(json.dumps(annotations))
    classes = [c['name'] for c in annotations['categories']]
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=f'{data}/',
                              metainfo=dict(classes=classes))
    cfg.randomness = dict(seed=3)
    cfg.train_cfg.max_epochs = 1
    cfg.dump(str(folder / CONFIG.name))
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()),
               folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text('/elsewhere/epoch_1.pth')
    (logs / '20260101_000000.log').write_text(LOG)
    (logs / 'vis_data' / 'scalars.json').write_text('\n'.join(
        json.dumps(entry) for entry in (
            dict(loss=2., lr=0.1, time=0.5, epoch=1, iter=2, step=2),
            {'coco/bbox_mAP': 0.125, 'step': 1})))
    return folder


@pytest.fixture(scope='module')
def report(work_dir):
    """The page, and its sections by title."""
    page, sections = build_report(
        str(work_dir), Options(pictures=1, score_thr=0.05))
    return page, {section.title: section for section in sections}


class Tags(HTMLParser):
    """Names and attributes of all tags, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_nothing_is_missing(report):
    _, sections = report
    assert list(sections) == list(SECTIONS)
    assert {s.title: s.missing for s in sections.values() if s.missing} == {}
    assert sections['Training'].texts == [
        'Finished, seed 3.',
        '0.500 s an iteration (median), on CPU, torch 9.9.9.'
    ]
    assert 'PyTorch: 9.9.9' in sections['Environment'].blocks[0].text
    assert [row[0] for row in sections['Complexity'].rows] == [
        'backbone + fc', 'backbone', 'detector'
    ]
    assert len(sections['AP per class'].rows) == 10
    assert [len(g.images) for g in sections['Best and worst pictures'
                                            ].galleries] == [1, 1]
    assert 'SCConvResNet' in sections['Config'].blocks[0].text


def test_page_refers_to_nothing_outside(report):
    page, _ = report
    tags = Tags(page).tags
    images = [attrs['src'] for tag, attrs in tags if tag == 'img']
    assert len(images) == 4
    for image in images:
        kind, data = re.fullmatch(
            r'data:image/(svg\+xml|jpeg);base64,(.+)', image).groups()
        assert base64.b64decode(data, validate=True)[:3] in (
            (b'<?x', ) if kind == 'svg+xml' else (b'\xff\xd8\xff', ))
    for tag, attrs in tags:
        assert tag not in ('script', 'link', 'iframe', 'object', 'base')
        assert attrs.get('href', '#').startswith('#')
        assert not any(name.startswith('on') for name in attrs)
    assert 'url(' not in page.split('</style>')[0]


def test_names_are_escaped(report):
    page, sections = report
    assert HOSTILE not in page and '<b>' not in page
    text = Tags(page).text
    assert HOSTILE in text  # as the class's name in the table
    assert 'Run run <b>&' in text
    captions = [
        image.text for gallery in sections['Best and worst pictures'].galleries
        for image in gallery.images
    ]
    assert any(f'$x^2$ {HOSTILE[:20]}.jpg: ' in c for c in captions)
    assert all(caption in text for caption in captions)


def test_stale_predictions_are_made_anew(work_dir, tmp_path):
    folder = tmp_path / 'copy'
    shutil.copytree(work_dir, folder)
    path = folder / 'predictions.pkl'
    nothing = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0),
                   labels=torch.zeros(0, dtype=int))
    write_predictions(str(path), [
        dict(img_id=i, pred_instances=nothing) for i in range(2)])

    def boxes():
        return sum(len(p['pred_instances']['scores'])
                   for p in ReportData(str(folder),
                                       Options()).predictions)

    assert boxes() == 0
    later = time.time() + 10
    os.utime(folder / 'epoch_1.pth', (later, later))
    assert boxes() > 0


def missing(folder, **options):
    page, sections = build_report(str(folder), Options(**options))
    found = {s.title: s.missing for s in sections if s.missing}
    assert page.count('class="missing"') == len(found)
    return found


def test_empty_folder(tmp_path):
    found = missing(tmp_path)
    assert set(found) == set(SECTIONS)
    assert 'holds no config' in found['Config']
    assert 'scalars.json' in found['Training']


def test_no_checkpoint_yet(work_dir, tmp_path):
    shutil.copytree(work_dir, tmp_path / 'run',
                    ignore=shutil.ignore_patterns('*checkpoint', '*.p*[hl]'))
    _, sections = build_report(str(tmp_path / 'run'))
    found = {s.title: s for s in sections if s.missing}
    assert set(found) == {'Scores', 'AP per class', 'Speed',
                          'Best and worst pictures'}
    assert 'tools/train.py --resume' in found['Speed'].missing
    # what the last validation logged
    assert found['Scores'].rows == [['coco/bbox_mAP', '12.5']]


def test_data_and_log_are_gone(work_dir, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(work_dir, folder,
                    ignore=shutil.ignore_patterns('*.log', '*.json'))
    config = folder / CONFIG.name
    config.write_text(config.read_text().replace(
        str(work_dir.parent / 'data'), '/nowhere'))
    found = missing(folder)
    assert 'the folder that data/ is in' in found['Speed']
    assert 'No log' in found['Environment']
    assert set(found) == set(SECTIONS) - {'Complexity', 'Config'}


def test_damaged_checkpoint_and_no_test(work_dir, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(work_dir, folder,
                    ignore=shutil.ignore_patterns('predictions.pkl'))
    assert 'no-test' in missing(folder, test=False)['Speed']
    (folder / 'epoch_1.pth').write_bytes(b'PK damaged')
    assert 'epoch_1.pth' in missing(folder)['Speed']


def test_no_such_folder():
    with pytest.raises(FileNotFoundError, match='no such folder: nowhere'):
        build_report('nowhere')


SCRIPT = '''<script>
addEventListener('load', () => {
  const images = [...document.images];
  document.title = JSON.stringify({
    broken: images.filter(i => !i.naturalWidth).map(i => i.alt),
    images: images.length,
    overflow: document.documentElement.scrollWidth
              - document.documentElement.clientWidth});
});
</script></body>'''


@pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on this machine')
@pytest.mark.parametrize('width', [1200, 500])
def test_page_in_chromium(report, tmp_path, width):
    """All images are drawn, nothing is wider than the window or a phone's,
    and the page has no error; asked by a script that only this copy has."""
    page = report[0].replace("default-src 'none'",
                             "default-src 'none'; script-src 'unsafe-inline'")
    (tmp_path / 'page.html').write_text(page.replace('</body>', SCRIPT))
    done = subprocess.run(
        [
            CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu',
            '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync',
            '--enable-logging=stderr', f'--user-data-dir={tmp_path}/profile',
            f'--window-size={width},900', f'--screenshot={tmp_path}/page.png',
            '--dump-dom', f'file://{tmp_path}/page.html'
        ],
        capture_output=True,
        text=True,
        timeout=300)
    title = Tags(done.stdout).text.strip().splitlines()[0]
    assert json.loads(title) == dict(broken=[], images=4, overflow=0)
    assert 'CONSOLE' not in done.stderr
    assert len(np.unique(cv2.imread(f'{tmp_path}/page.png'))) > 50
