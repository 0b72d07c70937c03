"""Compares the checkpoint of a whole model with the model, and loads it."""
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from ..errors import CheckpointError

# Parts whose shapes do not depend on the number of classes.
BODY = ('data_preprocessor', 'backbone', 'neck')
STATISTICS = ('.running_mean', '.running_var')


@dataclass
class Comparison:
    """Which tensors of a model a checkpoint has.

    Parameters and the statistics of norms are counted, other buffers are
    not: versions of MMDetection differ in them.
    """

    checkpoint: str
    model: str
    """Class of the model."""
    totals: Counter = field(default_factory=Counter)
    """Tensors of each part (child of the model)."""
    missing: list[str] = field(default_factory=list)
    """Tensors that the file does not fill."""
    wrong_shape: dict[str, tuple] = field(default_factory=dict)
    """Shapes in the file and in the model; also among ``missing``, but not
    in ``dense``."""
    dense: list[str] = field(default_factory=list)
    """Swapped convolutions of which the file has the dense ones."""
    unexpected: list[str] = field(default_factory=list)
    """Tensors of the file that the model does not have."""
    names: list[str] = field(default_factory=list)
    """What the file has, tensors or not."""

    @property
    def total(self) -> int:
        return sum(self.totals.values())

    @property
    def fits(self) -> int:
        return self.total - len(self.missing)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Tensors that fit, and all, of each part."""
        missing = Counter(part_of(name) for name in self.missing)
        return {part: (total - missing[part], total)
                for part, total in self.totals.items()}

    def reason(self, name: str) -> str:
        """Why the file does not fill a tensor."""
        if name not in self.wrong_shape:
            return f'{name} is not in the file'
        in_file, in_model = self.wrong_shape[name]
        return f'{name} is {in_file} in the file, {in_model} in the model'

    def first_wrong_shape(self) -> str:
        name = next(iter(self.wrong_shape))
        cause = ('depth or width' if part_of(name) in BODY else
                 'number of classes')
        return f'{self.reason(name)} (another {cause}?)'

    def __str__(self) -> str:
        parts = ', '.join(f'{part} {count} of {total}'
                          for part, (count, total) in self.counts().items())
        line = (f'{self.checkpoint}: {self.fits} of {self.total} '
                f'tensors of {self.model} loaded ({parts})')
        if self.unexpected:
            line += (f'. {len(self.unexpected)} of the file are not in the '
                     f'model, the first is {self.unexpected[0]}')
        if self.missing:
            line += (f'. RANDOMLY INITIALISED are {len(self.missing)}: '
                     f'{self.reason(self.missing[0])}')
        return line

    def summary(self) -> str:
        """A text about how much of the file is loaded."""
        wrong = len(self.wrong_shape)
        return (f'{self.fits} of {self.total} tensors are loaded, '
                f'{len(self.missing) - wrong} are not in the file, {wrong} '
                'have another shape')

    def nothing_fits(self) -> str:
        """A text about why nothing in the file fits."""
        what = f'0 of {self.total} tensors of {self.model} fit: '
        if self.wrong_shape:
            return (f'{what}{len(self.wrong_shape)} have another shape, the '
                    f'first: {self.first_wrong_shape()}')
        return (f'{what}the names in the file begin with '
                f'{beginnings(self.names)}, those of the model with '
                f'{beginnings(self.totals, ".")}')

    def check(self, training: str = '') -> None:
        """Check that the file fills the model, which a test requires.

        Args:
            training (str): Name of the file's training, for the message.

        Raises:
            CheckpointError: If it does not; says what to do.
        """
        if not self.missing:
            return
        inside = tuple(f'{name}.' for name in self.dense)
        other = [name for name in self.missing if not name.startswith(inside)]
        empty = [part for part, (count, _) in self.counts().items()
                 if not count]
        if not self.fits:
            what = self.nothing_fits()
        elif self.wrong_shape:
            what = (f'{len(self.wrong_shape)} of {self.total} tensors have '
                    f'another shape, the first: {self.first_wrong_shape()}')
        elif empty:
            what = f'it has no weights for {", ".join(empty)}'
        elif other:
            what = (f'{len(other)} of {self.total} tensors of {self.model} '
                    f'are not in the file, the first is {other[0]}')
        else:
            raise CheckpointError(
                f'{self.checkpoint} is of the dense network: in place of the '
                f'{len(self.dense)} swapped convolutions of this config it '
                f'has dense ones, the first is {self.dense[0]}. Train with '
                f'load_from={self.checkpoint} (they are fitted), or convert '
                'it, if it is a ResNet: python tools/model_converters/'
                f'resnet_to_scconv.py {self.checkpoint} OUT --config CONFIG '
                '--whole-detector')
        name = f' ({training})' if training else ''
        raise CheckpointError(
            f'{self.checkpoint} is not of this config: {what}. Name the '
            f'config that it was trained with{name}, or a checkpoint of this '
            'config')


def part_of(name: str) -> str:
    return name.split('.')[0]


def beginnings(names: Iterable[str], end: str = '', limit: int = 5) -> str:
    """The first parts of names, for a message."""
    first = list(dict.fromkeys(
        part_of(name) + ('.' if '.' in name else end) for name in names))
    more = ', ...' if len(first) > limit else ''
    return (', '.join(map(repr, first[:limit])) or 'nothing') + more


def training_of(checkpoint: Mapping) -> str:
    """The name of the config that MMEngine trained a checkpoint with; '' if
    it is not known."""
    meta = checkpoint.get('meta')
    name = meta.get('experiment_name') if isinstance(meta, Mapping) else None
    # it ends with a time stamp, and is only that if no file was read
    found = re.fullmatch(r'(.+)_\d{8}_\d{6}', name or '')
    return found[1] if found else ''


def inner_model(model: nn.Module) -> nn.Module:
    """The model inside wrappers and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def tensors_of(state_dict: Mapping[str, Tensor]) -> OrderedDict:
    return OrderedDict((re.sub(r'^module\.', '', name), value)
                       for name, value in state_dict.items()
                       if isinstance(value, Tensor))


def dense_convs(model: nn.Module, given: Mapping[str, Tensor],
                missing: Iterable[str]) -> Iterator[str]:
    """Swapped convolutions that the file does not fill, and of which it has
    the dense ones."""
    for prefix, module in model.named_modules():
        for name in getattr(module, 'swapped_convs', ()):
            conv = f'{prefix}.{name}' if prefix else name
            shape = module.dense_shapes.get(f'{name}.weight')
            value = given.get(f'{conv}.weight')
            if (value is not None and value.shape == shape
                    and any(key.startswith(f'{conv}.') for key in missing)):
                yield conv


def compare(model: nn.Module, state_dict: Mapping[str, Tensor],
            checkpoint: str) -> Comparison:
    """Compare the names and shapes of a state dict with those of a model.

    Args:
        model (nn.Module): Not wrapped.
        state_dict (Mapping): A leading ``module.`` is left out.
        checkpoint (str): Where it is from, for the messages.
    """
    given, own = tensors_of(state_dict), model.state_dict()
    parameters = {name for name, _ in model.named_parameters()}
    counted = [name for name in own
               if name in parameters or name.endswith(STATISTICS)]
    shapes = {name: (tuple(given[name].shape), tuple(own[name].shape))
              for name in counted if name in given}
    missing = [name for name in counted
               if name not in shapes or len({*shapes[name]}) > 1]
    dense = list(dense_convs(model, given, missing))
    inside = tuple(f'{name}.' for name in dense)
    wrong = {name: shapes[name] for name in missing
             if name in shapes and not name.startswith(inside)}
    unexpected = [name for name in given
                  if name not in own and not name.startswith(inside)]
    return Comparison(checkpoint, type(model).__name__,
                      Counter(map(part_of, counted)), missing, wrong, dense,
                      unexpected, list(state_dict))


def load_whole(model: nn.Module, state_dict: Mapping[str, Tensor],
               checkpoint: str) -> Comparison:
    """Load a state dict as MMEngine does, except tensors of another shape;
    returns what was loaded.

    Args:
        model (nn.Module): May be wrapped, or inside a test-time augmentation.
        state_dict (Mapping): A leading ``module.`` is left out.
        checkpoint (str): Where it is from, for the messages.
    """
    model = inner_model(model)
    compared = compare(model, state_dict, checkpoint)
    own = model.state_dict()
    given = OrderedDict(
        (name, value) for name, value in tensors_of(state_dict).items()
        if name not in own or value.shape == own[name].shape)
    given._metadata = getattr(state_dict, '_metadata', OrderedDict())
    # modules may convert the names of older versions
    absent = {*model.load_state_dict(given, strict=False).missing_keys}
    compared.missing = [name for name in compared.missing if name in absent]
    return compared
