"""Loads the checkpoint of a whole model, and checks that it is of it."""
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from ..errors import CheckpointError

# What may lack weights in a test, which says so; any other part gives the
# predictions, and they would be of random weights.
BODY = ('data_preprocessor', 'backbone', 'neck')
STATISTICS = ('.running_mean', '.running_var')


@dataclass
class Loaded:
    """What a checkpoint gave to a model.

    Parameters and the statistics of norms are counted, other buffers are
    not: versions of MMDetection differ in them.
    """

    checkpoint: str
    model: str
    """Class of the model."""
    totals: Counter = field(default_factory=Counter)
    """Tensors of each part (child of the model)."""
    missing: list[str] = field(default_factory=list)
    """Tensors that were not loaded."""
    wrong_shape: dict[str, tuple] = field(default_factory=dict)
    """Shapes in the file and in the model; also among ``missing``."""

    def counts(self) -> dict[str, tuple[int, int]]:
        """Tensors loaded, and all, of each part."""
        missing = Counter(part_of(name) for name in self.missing)
        return {part: (total - missing[part], total)
                for part, total in self.totals.items()}

    def reason(self, name: str) -> str:
        """Why a tensor was not loaded."""
        if name not in self.wrong_shape:
            return f'{name} is not in the file'
        in_file, in_model = self.wrong_shape[name]
        return f'{name} is {in_file} in the file, {in_model} in the model'

    def __str__(self) -> str:
        counts = self.counts()
        loaded = sum(count for count, _ in counts.values())
        parts = ', '.join(f'{part} {count} of {total}'
                          for part, (count, total) in counts.items())
        line = (f'{self.checkpoint}: {loaded} of {sum(self.totals.values())} '
                f'tensors of {self.model} loaded ({parts})')
        if self.missing:
            line += (f'. RANDOMLY INITIALISED are {len(self.missing)}: '
                     f'{self.reason(self.missing[0])}')
        return line

    def check(self) -> None:
        """
        Raises:
            CheckpointError: If nothing, or nothing of a part, was loaded, or
                not all of what gives the predictions.
        """
        counts = self.counts()
        empty = [part for part, (count, _) in counts.items() if not count]
        heads = [name for name in self.missing if part_of(name) not in BODY]
        if not empty and not heads:
            return
        if len(empty) == len(counts):
            what = f'nothing in it fits {self.model}'
        elif empty:
            what = f'it has no weights for {", ".join(empty)}'
        else:
            names = [name for name in heads if name in self.wrong_shape]
            what = self.reason((names or heads)[0])
            if names:
                what += ' (is it for another number of classes?)'
        raise CheckpointError(
            f'{self}\n{self.checkpoint} is not of this config: {what}. Name '
            'the checkpoint of a training with it')


def part_of(name: str) -> str:
    return name.split('.')[0]


def load_whole(model: nn.Module, state_dict: Mapping[str, Tensor],
               checkpoint: str) -> Loaded:
    """Load a state dict as MMEngine does, but for tensors of another shape,
    and count what was loaded.

    Args:
        model (nn.Module): What is wrapped, or inside a test-time
            augmentation, is loaded.
        state_dict (Mapping): A leading ``module.`` is left out.
        checkpoint (str): Where it is from, for the messages.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    given = OrderedDict((re.sub(r'^module\.', '', name), value)
                        for name, value in state_dict.items()
                        if isinstance(value, Tensor))
    own = model.state_dict()
    wrong = {
        name: (tuple(value.shape), tuple(own[name].shape))
        for name, value in given.items()
        if name in own and value.shape != own[name].shape
    }
    for name in wrong:
        del given[name]
    given._metadata = getattr(state_dict, '_metadata', OrderedDict())
    missing = model.load_state_dict(given, strict=False).missing_keys
    parameters = {name for name, _ in model.named_parameters()}
    counted = [name for name in own
               if name in parameters or name.endswith(STATISTICS)]
    return Loaded(
        checkpoint, type(model).__name__, Counter(map(part_of, counted)),
        [name for name in missing if name in counted], wrong)
