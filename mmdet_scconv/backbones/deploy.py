"""The backbone of a detector in its form for inference."""
from torch import nn


def deploy_backbone(detector: nn.Module) -> None:
    """Call ``switch_to_deploy`` of a detector's backbone.

    Raises:
        ValueError: If the backbone has no such form.
    """
    backbone = detector.backbone
    if not hasattr(backbone, 'switch_to_deploy'):
        raise ValueError(
            f'backbone {type(backbone).__name__} has no switch_to_deploy(): '
            'only the backbones of mmdet_scconv have one; for an ordinary '
            "ResNet there is dict(type='SwapResNet', conv2_cfg=dict("
            "type='SCConv'), stages_with_swap=(False,) * 4)")
    backbone.switch_to_deploy()
