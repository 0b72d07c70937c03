"""Convolutions alone, which need torch and nothing else.

Those of the second block of each of ResNet-50's stages, with the BatchNorm
behind them: dense, or SCConv.
"""
import torch
from torch import Tensor, nn

from ..layers import SCConv
from .cases import Case
from .textbook import switch_to_textbook

KINDS = ('dense', 'scconv')
WIDTHS = (64, 128, 256, 512)  # of a 4th, 8th, 16th and 32nd of the image


class Block(nn.Module):
    """A convolution and its BatchNorm, called ``conv2`` as in a ResNet."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        kind = {'dense': nn.Conv2d, 'scconv': SCConv}[kind]
        self.conv2 = nn.Sequential(
            kind(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(x)


class Convolutions(nn.Module):
    """The blocks of all stages, where :func:`layer_inputs` looks for them.

    Shape: (N, 3, H, W), of which size and layout count -> four maps.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.res_layers = [f'layer{i + 1}' for i in range(len(WIDTHS))]
        for name, width in zip(self.res_layers, WIDTHS):
            setattr(self, name, nn.Sequential(
                nn.Identity(), Block(kind, width)))

    def forward(self, image: Tensor) -> list[Tensor]:
        n, _, height, width = image.shape
        layout = torch.channels_last if image.is_contiguous(
            memory_format=torch.channels_last) else torch.contiguous_format
        return [
            getattr(self, name)(torch.randn(
                n, channels, -(-height // stride), -(-width // stride),
                device=image.device).contiguous(memory_format=layout))
            for name, channels, stride in zip(
                self.res_layers, WIDTHS, (4, 8, 16, 32))
        ]


def build(kind: str, form: str, case: Case) -> nn.Module:
    """One system's convolutions; norms use running statistics, but where the
    case asks for those of the batch.

    Args:
        kind (str): One of ``KINDS``.
        form (str): One of ``FORMS``.

    Raises:
        ValueError: If the case is of another part, or the form does not fit.
    """
    if case.part != 'layer':
        raise ValueError(
            f'part={case.part!r} is not valid for {kind!r}, which are '
            "convolutions alone: part='layer', or the config of a detector")
    torch.manual_seed(0)
    model = Convolutions(kind).to(case.device)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model.train(case.task == 'training')
    for norm in norms:
        norm.train(case.regime == 'batch-statistics' and model.training)
    if form == 'textbook':
        switch_to_textbook(model)
    elif form == 'deploy':
        if kind != 'scconv' or model.training:
            raise ValueError(
                f'form={form!r} is not valid for {kind!r} in task='
                f'{case.task!r}: only SCConv has it, for inference')
        for name in model.res_layers:
            block = getattr(model, name)[1]
            block.conv2 = block.conv2[0].deploy(block.conv2[1])
    if case.channels_last:
        model.to(memory_format=torch.channels_last)
    return model
