"""The command line, run from a folder outside the repository."""
import pytest
import torch
from conftest import REPO, call_tool
from mmdet.models.backbones import ResNet

TOOL = REPO / 'tools/model_converters/resnet_to_scconv.py'
DEMO = str(REPO / 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py')


@pytest.fixture
def convert(tmp_path, data_home, monkeypatch):
    (tmp_path / 'data').symlink_to(data_home / 'data')
    monkeypatch.chdir(tmp_path)
    torch.save(ResNet(18, base_channels=16).state_dict(),
               tmp_path / 'dense.pth')

    def run(*args):
        return call_tool(TOOL, 'dense.pth', *args)

    run.folder = tmp_path
    return run


def test_training_images_of_a_config(convert):
    """The config's backbone settings, normalisation and images."""
    (convert.folder / 'config.py').write_text(
        f'_base_ = {DEMO!r}\nmodel = dict(backbone=dict(base_channels=16))\n')
    code, output = convert('out.pth', '--config', 'config.py', '--num-images',
                           '8', '--size', '64', '--depth', '18')
    assert code == 0, output[-3000:]
    assert 'layer4.1' in output and 'Written: out.pth' in output
    assert len(output.splitlines()) < 40
    meta = torch.load(convert.folder / 'out.pth', weights_only=True)['meta']
    assert meta['images'] == dict(source='training set of config.py', count=8,
                                  size=64)


def test_images_must_be_named(convert):
    code, output = convert('out.pth')
    assert code == 1
    assert "resnet_to_scconv: method='fit' needs images" in output
