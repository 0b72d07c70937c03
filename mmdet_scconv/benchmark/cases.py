"""The cases of a benchmark, and what a case needs of a model.

The models are built by models.py, of configs, or by convolutions.py.
"""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PARTS = ('backbone', 'detector', 'layer')
TASKS = ('inference', 'training')
FORMS = ('as-is', 'textbook', 'deploy')
EXECUTIONS = ('eager', 'compile', 'cuda-graphs')
# what a training step trains: 'shipped' as the config says, else all
# parameters, with BatchNorm at running statistics or those of the batch
REGIMES = ('shipped', 'norm-eval', 'batch-statistics')
# 'fp32' and 'tf32' differ only on GPUs; the others are autocast (AMP)
DTYPES = {
    'fp32': None,
    'tf32': None,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}


@dataclass(frozen=True)
class Case:
    """The settings that all systems of one comparison share.

    Args:
        part (str): One of ``PARTS``; 'layer': the second block's conv2 of
            each stage, one after the other.
        task (str): 'inference' or 'training' (forward and backward).
        execution (str): One of ``EXECUTIONS``; 'cuda-graphs': the kernels
            of eager mode, launched together.
        dtype (str): One of ``DTYPES``.
        batch (int): Images a step.
        shape (tuple): Height and width of the images in pixels.
        regime (str): One of ``REGIMES``, for training.
        device (str): 'cpu' or 'cuda'.
        channels_last (bool): Memory format.
    """

    part: str = 'backbone'
    task: str = 'inference'
    execution: str = 'eager'
    dtype: str = 'fp32'
    batch: int = 1
    shape: tuple[int, int] = (800, 1344)
    regime: str = 'shipped'
    device: str = 'cpu'
    channels_last: bool = True

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: For CUDA graphs where there can be none.
        """
        if self.execution == 'cuda-graphs' and (
                self.device != 'cuda' or self.part == 'detector'):
            raise ValueError(
                "execution='cuda-graphs' is not valid for part="
                f'{self.part!r} on device={self.device!r}: it needs a GPU, '
                'and a part without sizes that depend on data: backbone or '
                'layer')

    def __str__(self) -> str:
        height, width = self.shape
        words = [self.part, self.task, self.execution, self.dtype,
                 f'{self.batch}x{height}x{width}', self.device]
        if self.task == 'training':
            words.append(self.regime)
        if not self.channels_last:
            words.append('contiguous')
        return ', '.join(words)


def random_images(case: Case) -> Tensor:
    """In the size and the layout of the case: (N, 3, H, W)."""
    return torch.randn(
        case.batch, 3, *case.shape, device=case.device).contiguous(
            memory_format=torch.channels_last
            if case.channels_last else torch.contiguous_format)


def layer_inputs(backbone: nn.Module,
                 case: Case) -> list[tuple[nn.Module, Tensor]]:
    """conv2 of each stage's second block, and its input."""
    found = []
    convs = [getattr(backbone, name)[1].conv2 for name in backbone.res_layers]
    handles = [
        conv.register_forward_hook(
            lambda module, args, out: found.append((module, args[0])))
        for conv in convs
    ]
    with torch.no_grad():
        backbone(random_images(case))
    for handle in handles:
        handle.remove()
    return [(conv, x.detach().requires_grad_(case.task == 'training'))
            for conv, x in found]
