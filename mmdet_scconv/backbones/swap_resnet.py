"""MMDetection's ResNet with another convolution in place of its own."""
import inspect
import logging
from collections.abc import Mapping, Sequence

from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.logging import print_log
from torch import nn

from ..pretrained import LoadReport, prepare_pretrained, pretrained_cfgs
from .missing_kernel import log_missing_kernel
from .swap_block import swap_in_block
from .unfilled import filled_names, frozen_without_weights


def check_arguments(backbone_type: type, names: dict) -> None:
    """Check that a backbone takes the arguments it is given.

    A backbone that is swapped in a config is given those of the one that was
    there before.

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


@MODELS.register_module()
class SwapResNet(ResNet):
    """ResNet whose blocks have another convolution as ``conv2``.

    In a Bottleneck that is the 3x3 (also where it has the stride); in a
    BasicBlock the second 3x3, the one without stride (SCConv, Section 3.3
    and Figure 1). The norm and the ReLU behind ``conv2`` stay; the norm goes
    where the convolution ends with its own. With no stage swapped it is
    MMDetection's ResNet: same parameters, same outputs.

    Args:
        depth (int): 18, 34, 50, 101 or 152.
        conv2_cfg (dict): Type and options of the convolution, e.g.
            ``dict(type='SCConv', alpha=0.75)``. The norms inside it are
            built from ``norm_cfg``.
        stages_with_swap (Sequence[bool]): Stages whose blocks are swapped, at
            least ``num_stages`` values. Defaults to all.
        freeze_without_weights (bool): Whether a training may freeze stages,
            or keep BatchNorms at statistics (``norm_eval``), that no
            checkpoint has filled. Defaults to False: it is an error, see
            :meth:`train`.
        **kwargs: Arguments of ``mmdet.ResNet``, with their meaning there.

    Shape: (N, 3, H, W) -> tuple of the stages in ``out_indices``, (N, C_i,
    ceil(H / s_i), ceil(W / s_i)), as ``mmdet.ResNet``.

    Raises:
        ValueError: For arguments of other backbones, invalid options of the
            convolution, too few ``stages_with_swap``, a stage with both DCN
            and a swap, or a convolution of another width in blocks that need
            theirs.
    """

    # Subclasses name their convolution; conv2_cfg then holds its options.
    conv2_type: str | None = None
    # whether switch_to_deploy() was called
    deployed = False

    def __init__(self,
                 depth: int,
                 conv2_cfg: dict | None = None,
                 stages_with_swap: Sequence[bool] = (True, True, True, True),
                 freeze_without_weights: bool = False,
                 **kwargs) -> None:
        check_arguments(type(self), kwargs)
        super().__init__(depth=depth, **kwargs)
        self.freeze_without_weights = freeze_without_weights
        # tensors that a checkpoint gave, from wherever it was loaded
        self._filled: set[str] = set()
        self.conv2_cfg = self._named_conv2_cfg(conv2_cfg)
        if len(stages_with_swap) < self.num_stages:
            raise ValueError(
                f'stages_with_swap={stages_with_swap!r} has '
                f'{len(stages_with_swap)} values, num_stages='
                f'{self.num_stages} needs one for each stage')
        self.stages_with_swap = tuple(stages_with_swap[:self.num_stages])
        # what load_pretrained asks for, and what it says
        self.dense_shapes = {k: v.shape for k, v in self.state_dict().items()}
        self.swapped_convs: list[str] = []
        self.load_report: LoadReport | None = None
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
                    self.swapped_convs.append(f'{stage}.{j}.{name}')
        # ResNet froze its stages before the new convolutions were there
        self._freeze_stages()

    def convs_to_swap(self, block: nn.Module) -> dict[str, dict]:
        """Names of the block's convolutions to replace, and options that
        follow from the place of each."""
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

    def train(self, mode: bool = True) -> 'SwapResNet':
        """As ResNet's (``norm_eval``, frozen stages); returns the module.

        All training loops call it after the weights were initialised, and a
        checkpoint of ``load_from`` or a resumed one was loaded. So it is here
        that a training ends which would freeze what nothing has filled.

        Raises:
            ValueError: If the weights were initialised, and there are frozen
                parameters or BatchNorms with ``norm_eval`` that no checkpoint
                has filled. ``freeze_without_weights=True`` allows it.
        """
        if (mode and not self.freeze_without_weights
                and (self.is_init or self._filled)):
            unfilled = frozen_without_weights(self, self._filled)
            if unfilled:
                raise ValueError(
                    f'{unfilled}. Set frozen_stages=-1, norm_eval=False in '
                    'model.backbone, or load weights for them: convert the '
                    "dense ResNet's with tools/model_converters/"
                    'resnet_to_scconv.py (freeze_without_weights=True trains '
                    'all the same)')
        log_missing_kernel(self)
        super().train(mode)
        return self

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args,
                              **kwargs) -> None:
        """Part of every way to load a state dict, torch's and MMEngine's, of
        the backbone or of what it is in: note what it fills."""
        self._filled |= filled_names(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def switch_to_deploy(self) -> 'SwapResNet':
        """Fold the BatchNorms into the convolutions, in place.

        For inference alone: it leaves eval mode on, parameters without
        gradients, and keys that are no checkpoint's. Same outputs but for
        rounding. Norms other than BatchNorms stay, and so does what a
        convolution other than SCConv does between its own.

        Returns:
            SwapResNet: Itself; a second call changes nothing.
        """
        if self.deployed:
            return self
        self.deployed = True
        self.eval()
        for block in self.modules():
            deploy = getattr(getattr(block, 'conv2', None), 'deploy', None)
            deployed = deploy and deploy(block.norm2)
            if deployed:
                block.conv2 = deployed
                setattr(block, block.norm2_name, nn.Identity())
        fuse_conv_bn(self)
        return self.requires_grad_(False)

    def init_weights(self) -> None:
        """Initialise as ResNet does, and say what was loaded.

        ``Pretrained`` is this package's (see
        :class:`mmdet_scconv.pretrained.Pretrained`); its report is logged and
        kept as ``load_report``. What is frozen without weights is an error
        when the training starts (:meth:`train`), as ``load_from`` and a
        resumed checkpoint come later; where that is allowed, a warning here.

        Raises:
            FileNotFoundError: If a pretrained checkpoint cannot be had; says
                which file to put where.
            ValueError: If it is damaged, or does not fit.
        """
        first_time = not self.is_init
        prepare_pretrained(self)
        for cfg in pretrained_cfgs(self):
            # a scope that is there was inherited from an mmdet:: base
            cfg.update(type='Pretrained', _scope_='mmdet_scconv')
        super().init_weights()
        if first_time and self.freeze_without_weights:
            unfilled = frozen_without_weights(self, self._filled)
            if unfilled:
                print_log(unfilled, logger='current', level=logging.WARNING)
