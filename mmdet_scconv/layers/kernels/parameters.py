"""What the Triton kernels take of an SCConv. Imports no triton, as layers that
are pickled hold it."""
from typing import NamedTuple

from torch import Tensor

# those that have a gradient
TRAINED = ('gn_weight', 'gn_bias', 'up_weight', 'up_bias', 'up_gamma',
           'up_beta', 'low_weight', 'low_bias', 'low_gamma', 'low_beta',
           'gwc', 'pwc1', 'gamma1', 'beta1', 'pwc2', 'pwc2_bias', 'gamma2',
           'beta2')


class Parameters(NamedTuple):
    """The tensors of an SCConv in the order in which the kernels take them.

    A deployed one has its norms folded into the weights: ``*_beta`` are the
    folded biases then, the rest of the norms is not read.
    """

    gn_weight: Tensor
    gn_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    up_gamma: Tensor
    up_beta: Tensor
    up_mean: Tensor
    up_var: Tensor
    low_weight: Tensor
    low_bias: Tensor
    low_gamma: Tensor
    low_beta: Tensor
    low_mean: Tensor
    low_var: Tensor
    gwc: Tensor
    pwc1: Tensor
    gamma1: Tensor
    beta1: Tensor
    mean1: Tensor
    var1: Tensor
    pwc2: Tensor
    pwc2_bias: Tensor
    gamma2: Tensor
    beta2: Tensor
    mean2: Tensor
    var2: Tensor

    @property
    def gate(self):
        return self[:2]

    @property
    def squeezes(self):
        return self[2:14]

    @property
    def fuse(self):
        return self[14:]


class Options(NamedTuple):
    """What the kernels take beside tensors and sizes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    gwc_groups: int
    gn_groups: int
    up_channels: int
    gn_eps: float
    up_eps: float
    low_eps: float
    eps1: float
    eps2: float
    threshold: float

    def flat(self) -> tuple[list[int], list[float]]:
        """As an operator's schema has them."""
        return ([*self.kernel, *self.stride, *self.padding, *self.dilation,
                 *self[4:7]], list(self[7:]))

    @classmethod
    def of(cls, ints: list[int], floats: list[float]) -> 'Options':
        """From :meth:`flat`."""
        pairs = [tuple(ints[i:i + 2]) for i in range(0, 8, 2)]
        return cls(*pairs, *ints[8:], *floats)


class SRUOptions(NamedTuple):
    """What the kernels of an SRU alone take beside tensors and sizes."""

    gn_groups: int
    up_channels: int
    gn_eps: float
    threshold: float
