"""The backbones: one class for each convolution."""
from mmdet.models.backbones import ResNeXt
from mmdet.registry import MODELS
from torch import nn

from .swap_resnet import SwapResNet


@MODELS.register_module()
class SCConvResNet(SwapResNet):
    """ResNet with SCConv in place of conv2 (SCConv, CVPR 2023).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.SCConv`, e.g.
    ``dict(alpha=0.75)``.
    """

    conv2_type = 'SCConv'


@MODELS.register_module()
class SCConvResNeXt(SwapResNet, ResNeXt):
    """ResNeXt with SCConv in place of conv2, the grouped 3x3.

    SCConv mixes all channels and has no ``groups``. The ResNeXt's groups go to
    the one grouped convolution inside, the GWC (``gwc_groups``), unless
    ``conv2_cfg`` names another number: this keeps the cardinality of the 3x3
    part, and is the cheaper choice. The width and everything around conv2 stay
    as they are.

    **It saves nothing in the usual ResNeXts.** With C groups the grouped 3x3
    has 9/C w^2 weights at width w, the 1x1 parts of SCConv alone have 0.875
    w^2: SCConv (9/(4C) + 0.875) is smaller for C < 8 only. ResNeXt-50 32x4d
    has 25.03M parameters (with the 1000-class fc), this one 28.44M, and
    33.74M with ``gwc_groups=2``.

    Args:
        groups (int): Of ``mmdet.ResNeXt``. Defaults to 1, which is a ResNet.
        base_width (int): Of ``mmdet.ResNeXt``. Defaults to 4.
        **kwargs: See :class:`SwapResNet`; depth 50, 101 or 152.
    """

    conv2_type = 'SCConv'

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        options = dict(groups=1)
        if self.groups > 1:
            options['gwc_groups'] = self.groups
        return {'conv2': {**options, **self.conv2_cfg}}


@MODELS.register_module()
class SPConvResNet(SwapResNet):
    """ResNet with SPConv in place of conv2 (Split to be Slim, IJCAI 2020).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.SPConv`; the
    detection tables of SCConv have ``dict(alpha=0.75)``.
    """

    conv2_type = 'SPConv'


@MODELS.register_module()
class SlimConvResNet(SwapResNet):
    """ResNet with SlimConv in place of conv2 (TIP 2021); depth 50 and more.

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.SlimConv`; the
    detection tables of SCConv have ``dict(k='1')``. conv3 takes the width
    that ``k`` leaves.
    """

    conv2_type = 'SlimConv'


@MODELS.register_module()
class GhostResNet(SwapResNet):
    """ResNet of Ghost modules (GhostNet, CVPR 2020), except for the stem.

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.GhostConv`,
    which replaces every convolution of a block and of its shortcut.
    """

    conv2_type = 'GhostConv'

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        names = [n for n in ('conv1', 'conv2', 'conv3') if hasattr(block, n)]
        swaps = {name: dict(relu=name != names[-1]) for name in names}
        if block.downsample is not None:
            swaps['downsample'] = dict(relu=False)
        return swaps


@MODELS.register_module()
class TiedConvResNet(SwapResNet):
    """ResNet with tied block convolutions as conv2 (AAAI 2021).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.TiedConv`.
    """

    conv2_type = 'TiedConv'


@MODELS.register_module()
class OctConvResNet(SwapResNet):
    """ResNet with octave convolutions as conv2 (ICCV 2019).

    ``conv2_cfg`` holds options of :class:`mmdet_scconv.layers.OctConv`; only
    conv2 is replaced, unlike in the paper's :class:`OctResNet`.
    """

    conv2_type = 'OctConv'


@MODELS.register_module()
class VersatileConvResNet(SwapResNet):
    """ResNet with spatial versatile filters as conv2 (NeurIPS 2018).

    ``conv2_cfg`` holds options of
    :class:`mmdet_scconv.layers.VersatileConv`. The stem stays dense.
    """

    conv2_type = 'VersatileConv'


@MODELS.register_module()
class PfLayerResNet(SwapResNet):
    """ResNet with max pooling as conv2 (PfLayer, ICLR 2022); depth 50 and
    more.

    The paper's "hybrid" network: blocks with a stride keep their convolution,
    here MMDetection's (the authors' code pools before it and gives it no
    stride; the counts are the same).
    """

    conv2_type = 'PfLayer'

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        return {'conv2': {}} if block.conv2.stride == (1, 1) else {}
