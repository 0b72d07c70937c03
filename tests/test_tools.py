"""The command lines, run as a user does: from a folder outside the repo.

Each tool runs once in a fresh process; its other tests, in this one.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPO, call_tool, free_port, load_script
from mmengine.fileio import load

from mmdet_scconv.benchmark.cases import Case
from mmdet_scconv.datasets.digits import CLASSES
from mmdet_scconv.deployment.detections import detection_differences

CONFIG = str(REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py')
VOC_FORMAT = str(
    REPO / 'configs/custom/faster-rcnn_scconv-r18_fpn_12e_voc-format.py')
SMALL = [
    '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
    'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'default_hooks.logger.interval=1'
]


def command(*args):
    args = [str(a) for a in args]
    if args[0].endswith('.py'):
        args = [sys.executable, str(REPO / 'tools' / args[0]), *args[1:]]
    else:
        args[0] = str(REPO / 'tools' / args[0])
    return args


@pytest.fixture
def tool(tmp_path, data_home, monkeypatch):
    """Runs a tool in an empty folder with the data in it. Shell scripts, and
    all with ``fresh``, in a process of their own."""
    (tmp_path / 'data').symlink_to(data_home / 'data')
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')

    def run(name, *args, check=True, fresh=False, **variables):
        if fresh or name.endswith('.sh'):
            done = subprocess.run(
                command(name, *args),
                env=dict(environment, **variables),
                capture_output=True,
                text=True)
            code, output = done.returncode, done.stdout + done.stderr
        else:
            code, output = call_tool(REPO / 'tools' / name, *args)
        assert not check or code == 0, output[-4000:]
        return code, output

    run.folder = tmp_path
    return run


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, data_home):
    """A checkpoint of train.py itself, in its default work dir."""
    folder = tmp_path_factory.mktemp('trained')
    (folder / 'data').symlink_to(data_home / 'data')
    subprocess.run(
        command('train.py', CONFIG, *SMALL),
        cwd=folder,
        check=True,
        capture_output=True)
    return (folder / 'work_dirs/faster-rcnn_scconv-r18_fpn_9e_digits' /
            'epoch_1.pth')


def test_train_writes_a_checkpoint(checkpoint):
    assert checkpoint.is_file()


def test_test(tool, checkpoint):
    _, output = tool('test.py', CONFIG, checkpoint, '--work-dir', 'out dir',
                     '--out', 'results.pkl', '--show-dir', 'shown', *SMALL)
    assert 'coco/bbox_mAP_50' in output
    assert (tool.folder / 'results.pkl').is_file()
    shown = list(tool.folder.glob('out dir/*/shown/*.jpg'))
    assert len(shown) == 2


def test_checkpoint_of_another_config(tool, checkpoint):
    code, output = tool('test.py', CONFIG, checkpoint, *SMALL,
                        'model.roi_head.bbox_head.num_classes=2', check=False)
    assert code == 1
    last = output.strip().splitlines()[-1]
    assert 'is not of this config: 4 of ' in last
    assert 'roi_head.bbox_head.fc_cls.weight is (' in last


def test_deployed_gives_the_same(tool, checkpoint):
    """Up to the order, which depends on rounding where scores are equal.
    Without non-maximum suppression, as rounding decides there, too."""
    keep_all = [
        f'model.test_cfg.{stage}.nms.iou_threshold=1'
        for stage in ('rpn', 'rcnn')
    ]
    results = []
    for name, option in (('plain.pkl', []), ('deployed.pkl', ['--deploy'])):
        tool('test.py', CONFIG, checkpoint, '--out', name, *option, *SMALL,
             *keep_all)
        found = [r['pred_instances'] for r in load(tool.folder / name)]
        results.append([[r[key] for r in found]
                        for key in ('bboxes', 'scores', 'labels')])
    for difference in detection_differences(*results, score_threshold=0.):
        assert difference.compared > 0
        assert difference.absolute < 1e-3
        assert difference.relative < 1e-5


def test_test_time_augmentation(tool, checkpoint):
    _, output = tool('test.py', CONFIG, checkpoint, '--tta', *SMALL)
    assert 'coco/bbox_mAP' in output


def test_test_time_augmentation_of_voc(tool, checkpoint):
    """Both evaluations read the boxes from the pipeline, in the way
    that docs/data.md names one's own data."""
    config = tool.folder / 'my_config.py'
    config.write_text(f'''
_base_ = {VOC_FORMAT!r}
classes = {CLASSES!r}
mine = dict(data_root='data/digits/', metainfo=dict(classes=classes))
val_dataloader = dict(dataset=dict(ann_file='ImageSets/Main/val.txt', **mine))
test_dataloader = val_dataloader
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
''')
    _, output = tool('test.py', config, checkpoint, '--tta', *SMALL)
    assert 'coco/bbox_mAP' in output and 'pascal_voc/mAP' in output


def test_dist_train_and_dist_test(tool):
    """Two processes on the CPU, over gloo; a work dir with a space. The rows
    of configs/scconv ask for SyncBatchNorm."""
    _, output = tool('dist_train.sh', CONFIG, 2, '--work-dir', 'work dir',
                     *SMALL, 'sync_bn=torch', PORT=free_port(),
                     CUDA_VISIBLE_DEVICES='')
    assert output.count('SyncBatchNorm is trained as BatchNorm') == 1
    assert 'Distributed training: True' in output
    assert 'GPU number: 2' in output
    # 8 images, 2 processes, 2 images each
    assert 'Epoch(train) [1][2/2]' in output
    _, output = tool('dist_test.sh', CONFIG, 'work dir/epoch_1.pth', 2, *SMALL,
                     PORT=free_port(), CUDA_VISIBLE_DEVICES='')
    assert 'coco/bbox_mAP' in output


@pytest.mark.parametrize('script', [
    'dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'
])
def test_scripts_without_arguments_say_how_they_are_used(tool, script):
    code, output = tool(script, check=False)
    assert code == 2
    assert f'tools/{script} ' in output


@pytest.mark.parametrize('script,positional', [
    ('slurm_train.sh', ['partition', 'my job', 'a config.py', 'work dir']),
    ('slurm_test.sh', ['partition', 'my job', 'a config.py', 'a b.pth']),
])
def test_slurm_scripts_quote_and_count(tool, script, positional):
    """A stand-in for srun prints its arguments, one a line."""
    srun = tool.folder / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    _, output = tool(
        script,
        *positional,
        '--cfg-options',
        'a="b c"',
        PATH=f'{srun.parent}:{os.environ["PATH"]}',
        GPUS='4',
        GPUS_PER_NODE='8',
        SRUN_ARGS='--qos=high --time=10')
    lines = output.splitlines()
    assert lines[:3] == ['-p', 'partition', '--job-name=my job']
    assert {'--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--qos=high',
            '--time=10', 'a="b c"'} <= set(lines)
    assert {'a config.py', positional[3]} <= set(lines)
    assert lines[-2:] == ['--launcher', 'slurm']


def test_resume_after_kill(tool):
    """Killed in the middle of the second epoch, it goes on after the first,
    past a damaged later checkpoint."""
    options = [
        '--work-dir', 'run', *SMALL, 'train_cfg.max_epochs=3',
        'default_hooks.logger.interval=1', 'train_dataloader.batch_size=1',
        'train_cfg.val_interval=3'
    ]
    log = tool.folder / 'killed.log'
    with open(log, 'w') as out:
        process = subprocess.Popen(
            command('train.py', CONFIG, *options),
            cwd=tool.folder,
            stdout=out,
            stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while 'Epoch(train) [2][3/8]' not in log.read_text():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    damaged = tool.folder / 'run/epoch_2.pth'
    assert not damaged.exists()
    good = (tool.folder / 'run/epoch_1.pth').read_bytes()
    damaged.write_bytes(good[:len(good) // 2])
    (tool.folder / 'run/last_checkpoint').write_text('run/epoch_2.pth')
    with pytest.warns(UserWarning, match='run/epoch_2.pth is damaged'):
        _, output = tool('train.py', CONFIG, '--resume', *options)
    assert 'resumed epoch: 1, iter: 8' in output
    assert 'Epoch(train) [1]' not in output
    assert 'Epoch(train) [2][1/8]' in output
    assert (tool.folder / 'run/epoch_3.pth').exists()


def test_auto_scale_lr(tool):
    _, output = tool('train.py', CONFIG, '--auto-scale-lr', *SMALL)
    # made for 4 images a step, run with 2
    assert 'Scaling the original LR by 0.5' in output


def test_auto_scale_lr_needs_a_base(tool):
    config = tool.folder / 'config.py'
    config.write_text(f'_base_ = {CONFIG!r}\n'
                      'auto_scale_lr = dict(_delete_=True, enable=False)\n')
    code, output = tool('train.py', config, '--auto-scale-lr', check=False)
    assert code == 1
    assert 'has no auto_scale_lr.base_batch_size' in output


def test_benchmark(tool):
    config = REPO / 'configs/digits/faster-rcnn_scconv-r50_fpn_6e_digits.py'
    _, output = tool('analysis_tools/benchmark.py', config, f'{config}:deploy',
                     '--shape', 64, 96, '--batch', 1, 2, '--rounds', 2,
                     '--load', 1, '--out', 'out/speed', fresh=True)
    assert f'{config.stem} (deploy)' in output
    folder = tool.folder / 'out'
    header, *rows = (folder / 'speed.csv').read_text().splitlines()
    assert header.startswith('case,system,median s,ratio')
    assert len(rows) == 4 and all('1 busy processes' in row for row in rows)
    assert (folder / 'speed.png').is_file()


def test_benchmark_builds_a_backbone_once():
    built = []
    build = load_script(
        REPO / 'tools/analysis_tools/benchmark.py').built_once(built.append)
    for execution, dtype, batch in (
            ('eager', 'fp32', 1), ('eager', 'bf16', 2),
            ('compile', 'fp32', 2)):
        build(Case(execution=execution, dtype=dtype, batch=batch))
    assert len(built) == 1
    build(Case(task='training'))
    assert len(built) == 2
    for batch in (1, 2):  # the measuring changes it
        build(Case(part='detector', batch=batch))
    assert len(built) == 4


@pytest.mark.parametrize('options', [[], ['--deploy']])
def test_image_demo(tool, checkpoint, options):
    images = tool.folder / 'images'
    shutil.copytree(tool.folder / 'data/digits/JPEGImages', images)
    name = sorted(images.glob('*.jpg'))[0].name
    (tool.folder / 'more').mkdir()
    shutil.copy(images / name, tool.folder / 'more')
    (images / 'damaged.jpg').write_bytes(b'not an image')
    (images / 'empty.jpg').write_bytes(b'')
    (images / 'notes.txt').write_text('not an image either')
    code, output = tool('image_demo.py', images, f'more/{name}', CONFIG,
                        checkpoint,
                        '--out-dir', 'out', '--score-thr', '0.01', *options,
                        check=False, fresh=not options)
    # the damaged ones are named, the others are done
    unread = output.split('Not read:')[1]
    assert code == 1 and 'damaged.jpg' in unread and 'empty.jpg' in unread
    assert 'roi_head 8 of 8' in output
    results = json.loads((tool.folder / 'out/predictions.json').read_text())
    assert len(results) == 11
    pictures = {result['picture'] for result in results}
    assert pictures == {str(path.relative_to(tool.folder)) for path in
                        (tool.folder / 'out').rglob('*.jpg')}
    assert {f'out/vis/images/{name}', f'out/vis/more/{name}'} <= pictures
    assert len(pictures) == 11
    for result in results:
        for found in result['predictions']:
            assert set(found) == {'label', 'class_name', 'score', 'bbox'}
            assert found['score'] >= 0.01


@pytest.mark.parametrize('args,message', [
    (['nothing.jpg', CONFIG, CONFIG], 'no such file or folder: nothing.jpg'),
    (['.', CONFIG, CONFIG], 'no images in the folder .'),
    ([CONFIG, 'nothing.py', CONFIG], 'no such file: nothing.py'),
])
def test_image_demo_bad_paths(tool, args, message):
    code, output = tool('image_demo.py', *args, check=False)
    assert code == 1 and message in output


def test_converters(tool):
    _, output = tool('dataset_converters/make_digits.py', 'new', '--num-train',
                     2, '--num-val', 1, '--size', 64, fresh=True)
    assert 'new: 2 training and 1 validation images' in output
    code, output = tool(
        'dataset_converters/make_digits.py', 'new', check=False)
    assert code == 1 and 'exists' in output
    _, output = tool('dataset_converters/voc_to_coco.py', 'data/VOCdevkit',
                     'VOC2007/ImageSets/Main/test.txt', '--out', 'voc.json')
    assert 'voc.json: 2 images, 6 boxes, 2 of them difficult' in output
