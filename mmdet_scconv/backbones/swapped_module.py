"""The methods that a module with swapped convolutions has in addition."""
import logging
from collections.abc import Mapping, Sequence
from itertools import chain

from mmdet.registry import MODELS, TASK_UTILS
from mmengine.logging import print_log
from torch import Size, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import FrozenWeightsError
from ..layers.common import check
from ..pretrained import (
    LoadReport,
    prepare_pretrained,
    use_checked_pretrained,
)
from .deploy import fold_batch_norms
from .missing_kernel import log_missing_kernel


class SwappedModule:
    """A mixin for a ``BaseModule``. It reports what a checkpoint filled,
    starts from a dense network's weights, raises an error where a training
    would freeze random weights, and folds BatchNorms for inference.

    ``swapped_init`` says how the swapped convolutions are initialised if a
    checkpoint has only the dense ones that they replace: 'fit', fitted to
    these when a training starts (:mod:`mmdet_scconv.warm_start`), or 'random'.

    ``freeze_without_weights`` says whether a training may freeze parameters,
    or BatchNorm statistics (``norm_eval``), that no checkpoint has filled. If
    False, this is an error, see :meth:`train`.
    """

    load_report: LoadReport | None = None
    # whether switch_to_deploy() was called
    deployed = False
    # whether frozen random weights were logged
    _warned = False

    def note_swap(self, swapped_convs: Sequence[str], dense_cfg: Mapping,
                  dense_shapes: Mapping[str, Size], swapped_init: str,
                  freeze_without_weights: bool) -> None:
        """To be called once, when convolutions have been replaced.

        Args:
            swapped_convs (Sequence[str]): Names of the new ones.
            dense_cfg (Mapping): Config of the module without the swap; its
                type is a class.
            dense_shapes (Mapping): Shapes of all its tensors, by name.
            swapped_init (str): See the class.
            freeze_without_weights (bool): See the class.
        """
        check(swapped_init in ('fit', 'random'), 'swapped_init', swapped_init,
              "'fit' or 'random'")
        self.swapped_init = swapped_init
        self.dense_cfg = dense_cfg
        # read and set by load_pretrained
        self.swapped_convs = list(swapped_convs)
        self.dense_shapes = dict(dense_shapes)
        self.freeze_without_weights = freeze_without_weights
        # tensors that a checkpoint gave, from wherever it was loaded
        self._filled: set[str] = set()
        # those for what was swapped, until the training starts
        self._dense_weights: dict[str, Tensor] = {}

    def keep_dense(self, state_dict: Mapping[str, Tensor],
                   prefix: str = '') -> None:
        """Keep the tensors of a dense network that this module has no place
        for."""
        own = self.state_dict()
        for name, shape in self.dense_shapes.items():
            value = state_dict.get(prefix + name)
            if getattr(value, 'shape', None) == shape != getattr(
                    own.get(name), 'shape', None):
                self._dense_weights[name] = value.detach()

    def to_be_fitted(self) -> bool:
        """Whether the swapped convolutions will be fitted to the dense ones:
        these are known, and no checkpoint has filled any of the new ones."""
        return self._has_dense_start() and not self._why_no_fit()

    def _has_dense_start(self) -> bool:
        """Whether the dense weights are known of a swapped convolution that is
        still random."""
        return self.swapped_init == 'fit' and any(
            f'{name}.weight' in self._dense_weights
            for name in self._random_convs())

    def _random_convs(self) -> list[str]:
        """Swapped convolutions that no checkpoint has filled."""
        filled, first_names = self._filled_inside(), {}
        for name in self.swapped_convs:  # several, if modules share it
            first_names.setdefault(self.get_submodule(name), name)
        return [name for name in first_names.values()
                if not any(f.startswith(f'{name}.') for f in filled)]

    def _filled_inside(self) -> list[str]:
        """Tensors of swapped convolutions that a checkpoint has filled."""
        # a bias has its name in both
        return sorted(
            name for name in self._filled - self.dense_shapes.keys()
            if name.startswith(self._inside()))

    def _inside(self) -> tuple[str, ...]:
        return tuple(f'{name}.' for name in self.swapped_convs)

    def _why_no_fit(self) -> str | None:
        """Why the swapped convolutions cannot be fitted, None if they can."""
        first = next(m for m in self.modules() if isinstance(m, nn.Conv2d))
        if first.in_channels != 3:
            return 'only a network whose inputs are images can be fitted'
        filled = self._filled_inside()
        if filled:
            return ('a checkpoint has filled others, and a fit is of all: '
                    f'{filled[0]} ...')
        unknown = [name for name in self.swapped_convs
                   if f'{name}.weight' not in self._dense_weights]
        if unknown:
            return ('for a fit the dense weights of all are needed; those of '
                    f'{unknown[0]} ({len(unknown)} of '
                    f'{len(self.swapped_convs)}) are not known')
        own = self.state_dict()
        other = [name for name, shape in self.dense_shapes.items()
                 if name in own and own[name].shape != shape
                 and not name.startswith(self._inside())]
        if other:
            return f'{other[0]} has another shape than the dense one'
        return None

    @property
    def dense_class(self) -> type:
        """The module's class before the swap."""
        return self.dense_cfg['type']

    def dense_network(self) -> nn.Module:
        """The module before the swap, with the weights that were loaded, on
        the CPU. It shares their memory: not to be trained."""
        dense = MODELS.build(dict(self.dense_cfg))
        own = self.state_dict()
        weights = {**own, **self._dense_weights}
        # a file may lack BatchNorms' step counters
        dense.load_state_dict(
            {name: weights[name].to(value)
             for name, value in dense.state_dict().items()
             if name in weights}, strict=False, assign=True)
        return dense

    def note_fitted(self) -> None:
        """To be called when the swapped convolutions were fitted."""
        self._filled.update(name for name, value in self.state_dict().items()
                            if self.dense_shapes.get(name) != value.shape)
        self._dense_weights.clear()

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode as the module itself does (``norm_eval``, frozen
        stages).

        All training loops call it after the weights were initialised, and
        after ``load_from`` or a resumed checkpoint was loaded. Therefore
        swapped convolutions are fitted here, unless a hook has done it, and a
        training that would freeze random weights is stopped here.

        Returns:
            nn.Module: Itself.

        Raises:
            FrozenWeightsError: If the weights were initialised, and there are
                frozen parameters or BatchNorms with ``norm_eval`` that no
                checkpoint has filled. ``freeze_without_weights=True`` makes
                it a warning.
        """
        super().train(mode)
        log_missing_kernel(self)
        if mode and not self.deployed and (self.is_init or self._filled):
            if self._has_dense_start():
                self._start_from_dense()
            self._dense_weights.clear()
            self._check_frozen()
        return self

    def _start_from_dense(self) -> None:
        reason = self._why_no_fit()
        if reason is None:
            TASK_UTILS.get('start_warm')(self)
            return
        random = self._random_convs()
        print_log(
            f'{type(self).__name__}: {len(random)} swapped convolutions '
            f'({random[0]} ...) start from random weights, as {reason}',
            logger='current', level=logging.WARNING)

    def _check_frozen(self) -> None:
        unfilled = self.frozen_without_weights()
        if not unfilled:
            return
        if not self.freeze_without_weights:
            raise FrozenWeightsError(
                f'{unfilled}. Set frozen_stages=-1, norm_eval=False in '
                "model.backbone (in its `module`, where Swapped's module has "
                'them), or load weights for them by init_cfg or '
                'load_from, also those of the dense network '
                '(freeze_without_weights=True trains all the same)')
        if not self._warned:
            self._warned = True
            print_log(unfilled, logger='current', level=logging.WARNING)

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args,
                              **kwargs) -> None:
        """Note what a state dict fills. torch and MMEngine call this method
        whenever they load one, also of a module around this one."""
        self._filled.update(
            name for name, value in chain(self.named_parameters(),
                                          self.named_buffers())
            if getattr(state_dict.get(prefix + name), 'shape', None)
            == value.shape)
        self.keep_dense(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def init_weights(self) -> None:
        """Initialise as the module itself does, and log what was loaded.

        ``Pretrained`` becomes this package's
        :class:`mmdet_scconv.pretrained.CheckedPretrained`; its report is
        logged and kept as ``load_report``. Frozen random weights are an error
        only when the training starts (:meth:`train`), as ``load_from`` and a
        resumed checkpoint are loaded later.

        Raises:
            FileNotFoundError: If a pretrained checkpoint is not there and
                cannot be downloaded; says which file to put where.
            ValueError: If it is damaged, or does not fit.
        """
        prepare_pretrained(self)
        use_checked_pretrained(self)
        super().init_weights()

    def frozen_without_weights(self) -> str:
        """A text that names what is frozen and was filled by no checkpoint. It
        is '' if there is none, nothing was swapped, or nothing is trained at
        all (a teacher)."""
        parameters = dict(self.named_parameters())
        if not self.swapped_convs or not any(
                p.requires_grad for p in parameters.values()):
            return ''
        # only tensors of two dimensions or more: norms need no pretrained
        # weights
        frozen = [name for name, p in parameters.items()
                  if not p.requires_grad and p.dim() > 1
                  and name not in self._filled]
        norms = [name for name, m in self.named_modules()
                 if isinstance(m, _BatchNorm) and not m.training
                 and m.running_mean is not None
                 and f'{name}.running_mean' not in self._filled]
        name, found = type(self).__name__, []
        if frozen:
            found.append(f'FROZEN WITHOUT WEIGHTS: {len(frozen)} weights of '
                         f'{name} ({frozen[0]} ...) do not learn, and no '
                         'checkpoint has filled them: they stay as '
                         'initialised')
        if norms:
            found.append(f'NORM_EVAL WITHOUT STATISTICS: {len(norms)} '
                         f'BatchNorms of {name} ({norms[0]} ...) stay at mean '
                         '0 and variance 1, as no checkpoint has filled them')
        return '. '.join(found)

    def switch_to_deploy(self) -> nn.Module:
        """Fold the BatchNorms into the convolutions, in place.

        For inference only: the module stays in eval mode, its parameters have
        no gradients, and its state dict fits no checkpoint. Outputs are the
        same except for rounding. Norms other than BatchNorms are not folded.

        Returns:
            nn.Module: Itself; a second call changes nothing.
        """
        if not self.deployed:
            self.deployed = True
            fold_batch_norms(self.eval())
            self.requires_grad_(False)
        return self
