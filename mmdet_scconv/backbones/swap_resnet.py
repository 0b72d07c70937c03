"""MMDetection's ResNet with another convolution in place of its own."""
import inspect
from collections.abc import Sequence

from mmcv.cnn import build_conv_layer, build_norm_layer
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .swap_conv import swap_conv
from .swapped_module import SwappedModule


def check_arguments(backbone_type: type, names: dict) -> None:
    """Check that a backbone takes the arguments it is given.

    If a config changes only the type of its backbone, the new one is given the
    arguments of the old one.

    Raises:
        ValueError: For one that it does not take; says which of MMDetection's
            backbones can be swapped for which.
    """
    taken = {
        name
        for cls in backbone_type.__mro__
        for name in inspect.signature(cls.__init__).parameters
    }
    for name, value in names.items():
        if name not in taken:
            raise ValueError(
                f'{name}={value!r} is not an argument of '
                f'{backbone_type.__name__}: a ResNet (also a ResNetV1d, as '
                'deep_stem=True, avg_down=True) can be swapped for '
                'SCConvResNet, a ResNeXt for SCConvResNeXt; backbones whose '
                'blocks are others (Res2Net, ResNeSt, RegNet, TridentResNet, '
                'DetectoRS_ResNet, ...) for none')


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


@MODELS.register_module()
class SwapResNet(SwappedModule, ResNet):
    """ResNet whose blocks have another convolution as ``conv2``.

    In a Bottleneck that is the 3x3 (also where it has the stride); in a
    BasicBlock the second 3x3, the one without stride (SCConv, Section 3.3 and
    Figure 1). The norm and the ReLU after ``conv2`` stay; the norm is left out
    if the convolution ends with a norm. With no stage swapped it is
    MMDetection's ResNet: same parameters, same outputs.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        conv2_cfg (dict): Type and options of the convolution, e.g.
            ``dict(type='SCConv', alpha=0.75)``. The norms inside it are
            built from ``norm_cfg``.
        stages_with_swap (Sequence[bool]): Stages whose blocks are swapped, at
            least ``num_stages`` values. Defaults to all.
        swapped_init (str): How the swapped convolutions are initialised if a
            checkpoint has only the dense ones: 'fit' (fitted to these when a
            training starts) or 'random'. Defaults to 'fit'.
        freeze_without_weights (bool): Whether a training may freeze stages, or
            BatchNorm statistics (``norm_eval``), that no checkpoint has
            filled. Defaults to False: this is an error, see
            :meth:`SwappedModule.train`.
        **kwargs: Arguments of ``mmdet.ResNet``, with their meaning there.

    Shape: (N, 3, H, W) -> tuple of the stages in ``out_indices``, (N, C_i,
    ceil(H / s_i), ceil(W / s_i)), as ``mmdet.ResNet``.

    Raises:
        ValueError: For arguments of other backbones, invalid options of the
            convolution, too few ``stages_with_swap``, a stage with both DCN
            and a swap, or a convolution of another width in blocks that
            cannot follow it.
    """

    # Subclasses name their convolution; conv2_cfg then holds its options.
    conv2_type: str | None = None

    def __init__(self,
                 depth: int,
                 conv2_cfg: dict | None = None,
                 stages_with_swap: Sequence[bool] = (True, True, True, True),
                 swapped_init: str = 'fit',
                 freeze_without_weights: bool = False,
                 **kwargs) -> None:
        check_arguments(type(self), kwargs)
        super().__init__(depth=depth, **kwargs)
        self.conv2_cfg = self._named_conv2_cfg(conv2_cfg)
        if len(stages_with_swap) < self.num_stages:
            raise ValueError(
                f'stages_with_swap={stages_with_swap!r} has '
                f'{len(stages_with_swap)} values, num_stages='
                f'{self.num_stages} needs one for each stage')
        self.stages_with_swap = tuple(stages_with_swap[:self.num_stages])
        dense_shapes = {k: v.shape for k, v in self.state_dict().items()}
        swapped_convs = []
        for i, swap in enumerate(self.stages_with_swap):
            if not swap:
                continue
            if self.dcn is not None and self.stage_with_dcn[i]:
                raise ValueError(
                    f'stage_with_dcn={self.stage_with_dcn!r} and '
                    f'stages_with_swap={stages_with_swap!r} both replace '
                    f'conv2 of stage {i}: a stage can have one of them')
            stage = self.res_layers[i]
            for j, block in enumerate(getattr(self, stage)):
                for name, options in self.convs_to_swap(block).items():
                    swap_in_block(block, name, {**self.conv2_cfg, **options},
                                  self.norm_cfg)
                    if name == 'downsample':  # (pooling,) convolution, norm
                        name = f'downsample.{len(block.downsample) - 2}'
                    swapped_convs.append(f'{stage}.{j}.{name}')
        dense_cfg = dict(
            kwargs, type=type(self), depth=depth, conv2_cfg=conv2_cfg,
            stages_with_swap=(False, ) * self.num_stages)
        self.note_swap(swapped_convs, dense_cfg, dense_shapes, swapped_init,
                       freeze_without_weights)
        # ResNet froze its stages before the new convolutions were built
        self._freeze_stages()

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        """Names of the block's convolutions to replace, each with the options
        that depend on its place."""
        return {'conv2': {}}

    def _named_conv2_cfg(self, conv2_cfg: dict | None) -> dict:
        conv2_cfg = dict(conv2_cfg or {})
        if self.conv2_type is not None:
            given = conv2_cfg.setdefault('type', self.conv2_type)
            if given != self.conv2_type:
                raise ValueError(
                    f'conv2_cfg type={given!r} is not valid: '
                    f'{type(self).__name__} is made of {self.conv2_type!r}; '
                    'SwapResNet takes any type')
        elif 'type' not in conv2_cfg:
            raise ValueError(
                f'conv2_cfg={conv2_cfg!r} is not valid: SwapResNet needs the '
                "name of a convolution, e.g. dict(type='SCConv')")
        return conv2_cfg

    def frozen_without_weights(self) -> str:
        """As in :class:`SwappedModule`, but read from ResNet's options, which
        ``train()`` has not applied yet."""
        return '. '.join(
            filter(None, (self._unfilled_stages(),
                          self._norms_without_statistics())))

    def _unfilled_stages(self) -> str | None:
        if self.frozen_stages < 0:
            return None
        stem = ('stem', ) if self.deep_stem else ('conv1', self.norm1_name)
        frozen = {'stem': stem}
        frozen.update((name, (name, ))
                      for name in self.res_layers[:self.frozen_stages])
        stages = []
        for stage, children in frozen.items():
            names = {
                f'{child}.{name}'
                for child in children
                for name, _ in getattr(self, child).named_parameters()
            }
            if names - self._filled:
                stages.append(f'{stage} ({len(names - self._filled)} of '
                              f'{len(names)} parameters)')
        if not stages:
            return None
        return (f'FROZEN WITHOUT WEIGHTS: frozen_stages={self.frozen_stages} '
                f'of {type(self).__name__} freezes {", ".join(stages)} that '
                'no checkpoint has filled: they stay as initialised')

    def _norms_without_statistics(self) -> str | None:
        if not self.norm_eval:
            return None
        count = sum(
            isinstance(module, _BatchNorm)
            and f'{name}.running_mean' not in self._filled
            for name, module in self.named_modules())
        if not count:
            return None
        return (f'NORM_EVAL WITHOUT STATISTICS: norm_eval=True of '
                f'{type(self).__name__} keeps {count} BatchNorms at mean 0 '
                'and variance 1, as no checkpoint has filled them')
