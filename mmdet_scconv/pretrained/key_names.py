"""Converts the names in ResNet checkpoints of several code bases to
MMDetection's.

torchvision, timm, MMDetection and MMPretrain name the tensors of a ResNet
alike (``conv1``, ``bn1``, ``layer1.0.downsample.0``, ...), but differ in the
prefix (``backbone.``, ``module.`` or both) and in the other tensors (``fc``, a
head or a neck).
"""
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

STEM = 'conv1.weight'
FIRST_BLOCK = 'layer1.0.conv1.weight'
RESNET_KEY = re.compile(
    r'((conv1|bn1)|layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01]))'
    r'\.(weight|bias|running_mean|running_var|num_batches_tracked)')
# blocks of the stages, convolutions of a block
DEPTHS = {
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
    ((3, 8, 36, 3), 3): 152,
    # of CIFAR: three stages
    **{((n, n, n, 0), 2): 6 * n + 2 for n in (3, 5, 7, 9, 18)},
}


def find_prefixes(keys: Iterable[str], names: Iterable[str]) -> list[str]:
    """Find the prefix of ``names`` in ``keys``, e.g. 'backbone.' or ''.

    Returns:
        list[str]: The prefix of most names; several if they share the highest
            count; empty if ``keys`` has none of the names.
    """
    names = set(names)
    counts = Counter()
    for key in keys:
        parts = key.split('.')
        for i in range(len(parts)):
            if '.'.join(parts[i:]) in names:
                counts['.'.join((*parts[:i], ''))] += 1
    most = max(counts.values(), default=0)
    return [prefix for prefix, count in counts.items() if count == most]


def find_prefix(names: Iterable[str]) -> str:
    """The prefix of the only ResNet among ``names``.

    Raises:
        ValueError: If there is none, or more than one.
    """
    names = sorted(names)
    prefixes = find_prefixes(names, [FIRST_BLOCK])
    if not prefixes:
        raise ValueError(
            'no ResNet in the checkpoint: no name ends in '
            f'{FIRST_BLOCK!r}. The first names are '
            f'{", ".join(map(repr, names[:5])) or "none"}; ResNets '
            'of torchvision, timm and MM are known')
    if len(prefixes) > 1:
        raise ValueError(f'{len(prefixes)} ResNets in the checkpoint, behind '
                         f'{", ".join(map(repr, prefixes))}: keep one')
    return prefixes[0]


def resnet_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a plain ResNet by MMDetection's names.

    Tensors of other parts (classifier, neck, heads) are left out.

    Args:
        state_dict (Mapping): Of torchvision, timm or MM; what
            :func:`.checkpoint.read_state_dict` gives.

    Returns:
        dict: Names without prefix, as ``mmdet.ResNet`` has them.

    Raises:
        ValueError: If there is no ResNet, more than one, or one of another
            structure (deep stem, averaging shortcuts, attention, ...).
    """
    prefix = find_prefix(state_dict)
    inner = {name[len(prefix):]: tensor
             for name, tensor in state_dict.items()
             if name.startswith(prefix)}
    backbone = {name: tensor for name, tensor in inner.items()
                if RESNET_KEY.fullmatch(name)}
    others = [name for name in inner if name not in backbone
              and re.match(r'(stem|conv1|bn1|layer\d+)\.', name)]
    if others or STEM not in backbone:
        raise ValueError(
            'the checkpoint is not of a plain ResNet: '
            f'{prefix + (others[0] if others else STEM)!r} is '
            f'{"of another structure" if others else "missing"} (variants '
            'with a deep stem, averaging shortcuts, attention or plugins '
            'cannot be converted)')
    return backbone


def resnet_settings(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Settings of the ResNet or ResNeXt that tensors are of, from names and
    shapes.

    Args:
        state_dict (Mapping): Of :func:`resnet_state_dict`.

    Returns:
        dict: ``depth`` and ``base_channels``; of a ResNeXt also ``groups``
            and ``base_width``, as ``mmdet.ResNeXt`` has them.

    Raises:
        ValueError: If it is none of R18 to R152 or of CIFAR's R20 to R110.
    """
    blocks = tuple(
        len({name.split('.')[1] for name in state_dict
             if name.startswith(f'layer{stage}.')}) for stage in range(1, 5))
    convs = 2 + ('layer1.0.conv3.weight' in state_dict)
    if (blocks, convs) not in DEPTHS:
        raise ValueError(
            f'the checkpoint has stages of {blocks} blocks with {convs} '
            'convolutions each: no ResNet of depth '
            f'{", ".join(map(str, DEPTHS.values()))}')
    depth = DEPTHS[blocks, convs]
    width, inputs = state_dict['layer1.0.conv2.weight'].shape[:2]
    if convs == 2:
        if inputs != width:
            raise ValueError(
                f'layer1.0.conv2.weight has {inputs} inputs for {width} '
                'outputs: grouped convolutions are known in ResNeXts of '
                'depth 50 and more')
        return dict(depth=depth, base_channels=width)
    outputs = state_dict['layer1.0.conv3.weight'].shape[0]
    if inputs < width:
        return dict(depth=depth, base_channels=outputs // 4,
                    groups=width // inputs, base_width=inputs)
    if outputs != 4 * width:
        raise ValueError(
            f'layer1.0.conv3.weight has {outputs} outputs for {width} '
            'inputs: wide ResNets cannot be converted')
    return dict(depth=depth, base_channels=width)


def with_shortcuts(state_dict: Mapping[str, Tensor],
                   wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a ResNet, with those of shortcuts without weights.

    He's option A, common in ResNets for CIFAR: a shortcut takes every second
    pixel and pads the channels with zeros on both sides. This equals a 1x1
    convolution with stride, whose middle rows are the identity; the norm
    behind it does nothing.

    Args:
        state_dict (Mapping): Of :func:`resnet_state_dict`.
        wanted (Mapping): State dict of a ResNet of the same depth whose
            shortcuts are a convolution and a BatchNorm; shapes are read.

    Returns:
        dict: Unchanged if there are any weights of shortcuts.
    """
    given = dict(state_dict)
    if any('.downsample.' in name for name in given):
        return given
    # for eps=1e-5 the norm's divisor is 1
    norm = dict(weight=1., bias=0., running_mean=0., running_var=1 - 1e-5)
    for name, like in wanted.items():
        if name.endswith('.downsample.0.weight'):
            outputs, inputs = like.shape[:2]
            weight = torch.zeros_like(like)
            rows = torch.arange(inputs) + (outputs - inputs) // 2
            weight[rows, torch.arange(inputs)] = 1
            given[name] = weight
            for key, value in norm.items():
                given[name.replace('0.weight', f'1.{key}')] = torch.full(
                    (outputs, ), value)
    return given
