"""Convolutions of a ResNet's block built anew."""
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models.backbones.resnet import Bottleneck
from torch import nn

from .swap_conv import swap_conv


def swap_in_block(block: nn.Module, name: str, cfg: dict,
                  norm_cfg: dict) -> None:
    """Replace one convolution of a BasicBlock or Bottleneck.

    The norm behind it stays, unless the new one ends with a norm of its own.
    Where the new conv2 of a Bottleneck has another width, its norm and conv3
    are built anew to fit.

    Args:
        block (nn.Module): Of MMDetection's ResNet.
        name (str): 'conv1', 'conv2', 'conv3' or 'downsample'.
        cfg (dict): See :func:`swap_conv`.
        norm_cfg (dict): See :func:`swap_conv`.

    Raises:
        ValueError: If the width of the new one differs and the block cannot
            follow.
    """
    if name == 'downsample':
        shortcut = block.downsample  # (pooling,) convolution, norm
        new = swap_conv(shortcut[-2], cfg, norm_cfg)
        wanted = shortcut[-2].out_channels
        shortcut[-2] = new
        if getattr(new, 'ends_with_norm', False):
            shortcut[-1] = nn.Identity()
    else:
        old = getattr(block, name)
        new = swap_conv(old, cfg, norm_cfg)
        wanted = old.out_channels
        setattr(block, name, new)
        norm_name = getattr(block, name.replace('conv', 'norm') + '_name')
        if getattr(new, 'ends_with_norm', False):
            setattr(block, norm_name, nn.Identity())
        elif new.out_channels != wanted:
            setattr(block, norm_name,
                    build_norm_layer(norm_cfg, new.out_channels)[1])
    if new.out_channels == wanted:
        return
    if (name != 'conv2' or not isinstance(block, Bottleneck)
            or getattr(block, 'after_conv2_plugins', None)):
        raise ValueError(
            f'conv2_cfg={cfg!r} gives {new.out_channels} output channels, '
            f'{name} of a {type(block).__name__} needs {wanted}: only conv2 '
            'of a Bottleneck (depth 50, 101 or 152) without a plugin behind '
            'it can have another width')
    block.conv3 = build_conv_layer(
        block.conv_cfg,
        new.out_channels,
        block.conv3.out_channels,
        kernel_size=1,
        bias=False)
