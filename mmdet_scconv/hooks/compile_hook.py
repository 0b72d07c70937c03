"""torch.compile for the parts of a detector that gain by it."""
from collections.abc import Sequence

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

from .model_parts import detector, parts_with_backbone


def compiler_error(device: torch.device) -> str | None:
    """Try torch.compile; returns why it does not work here, None if it does.
    """
    try:
        x = torch.ones(8, device=device, requires_grad=True)
        torch.compile(lambda x: x.sin() + 1)(x).sum().backward()
    except Exception as error:  # compilers fail in their own ways
        return str(error).strip().splitlines()[0]
    return None


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles backbone and neck with torch.compile.

    The heads are not compiled, as their shapes depend on the image's content.
    Parameters, checkpoints and their keys stay as they are. With dynamic
    shapes, images of a new size need no new compilation. If there is no
    working compiler (a C++ compiler on the CPU, Triton on a GPU), a warning is
    logged and the model runs without. Put it into ``custom_hooks``.

    Args:
        parts (Sequence[str]): Attributes of the detector, or of those inside
            a tracker. Defaults to backbone and neck; a missing neck is left
            out.
        dynamic (bool | None): Whether shapes are dynamic from the start;
            None: from the second shape on, which compiles faster where all
            images have one size. Defaults to True.
        **options: Of ``torch.compile``, e.g. ``mode='max-autotune'``.

    Raises:
        ValueError: If the detector has no such part.
    """

    def __init__(self,
                 parts: Sequence[str] = ('backbone', 'neck'),
                 dynamic: bool | None = True,
                 **options) -> None:
        self.parts = tuple(parts)
        self.options = dict(dynamic=dynamic, **options)

    def before_run(self, runner) -> None:
        model = detector(runner)
        found = {name: [getattr(part, name)
                        for part in parts_with_backbone(runner)
                        if getattr(part, name, None) is not None]
                 for name in self.parts}
        for name, parts in found.items():
            if not parts and name != 'neck':
                raise ValueError(
                    f'CompileHook: parts={self.parts!r} is not valid: '
                    f'{type(model).__name__} has no {name!r}')
        error = compiler_error(next(model.parameters()).device)
        if error:
            runner.logger.warning(
                'torch.compile does not work here, the model runs without '
                f'it: {error}')
            return
        for parts in found.values():
            for part in parts:
                part.compile(**self.options)
        runner.logger.info(
            f'torch.compile: {", ".join(self.parts)}; the first iteration '
            'takes minutes')
