"""What the kernels take of an SCConv. Imports no triton, as layers that are
pickled hold it."""
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x gives: autocast's dtype where it is on."""
    device = x.device.type
    return (torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device) else x.dtype)


def has_running_statistics(conv: nn.Module) -> bool:
    """Whether the norms of an SCConv are BatchNorms that use them now."""
    cru = conv._modules['cru']._modules  # as in tensors_of
    for name in ('squeeze_up_bn', 'squeeze_low_bn', 'bn1', 'bn2'):
        norm = cru[name]
        if not (isinstance(norm, _BatchNorm) and not norm.training
                and norm._buffers['running_mean'] is not None
                and has_affine(norm)):
            return False
    return True


def has_affine(norm: nn.Module) -> bool:
    """Whether a norm has a weight and a bias. In a DataParallel replica they
    are plain attributes, and do not count."""
    return (norm._parameters.get('weight') is not None
            and norm._parameters.get('bias') is not None)


def tensors_of(conv: nn.Module) -> list[Tensor]:
    """All tensors of an SCConv in the order of ``Parameters``; of a deployed
    one, also scale and shift of the norm behind it.

    Past ``nn.Module.__getattr__``, which takes longer for all of them than
    the convolution on a GPU.
    """
    if conv.deployed:
        return list(map(conv._buffers.__getitem__, DEPLOYED))
    cru = conv._modules['cru']._modules
    gn = conv._modules['sru']._modules['gn']._parameters
    up, low = cru['squeeze_up']._parameters, cru['squeeze_low']._parameters
    pwc2 = cru['pwc2']._parameters
    return [
        gn['weight'], gn['bias'],
        up['weight'], up['bias'], *norm_tensors(cru['squeeze_up_bn']),
        low['weight'], low['bias'], *norm_tensors(cru['squeeze_low_bn']),
        cru['gwc']._parameters['weight'], cru['pwc1']._parameters['weight'],
        *norm_tensors(cru['bn1']),
        pwc2['weight'], pwc2['bias'], *norm_tensors(cru['bn2']),
    ]


def norm_tensors(norm: nn.Module) -> tuple[Tensor, ...]:
    """Weight, bias and running statistics of a BatchNorm."""
    parameters, buffers = norm._parameters, norm._buffers
    return (parameters['weight'], parameters['bias'],
            buffers['running_mean'], buffers['running_var'])


# a DeployedSCConv's buffers in the order of tensors_of; the kernels do not
# read what is named UNREAD
UNREAD = 'bias1'
DEPLOYED = (
    'gate_weight', 'gate_bias',
    'squeeze_up_weight', UNREAD, UNREAD, 'squeeze_up_bias', UNREAD, UNREAD,
    'squeeze_low_weight', UNREAD, UNREAD, 'squeeze_low_bias', UNREAD, UNREAD,
    'gwc', 'pwc1', UNREAD, 'bias1', UNREAD, UNREAD,
    'pwc2', UNREAD, UNREAD, 'bias2', UNREAD, UNREAD, 'scale', 'shift')


def numbers_of(conv: nn.Module) -> tuple[float, ...]:
    """Those of an SCConv's options that may be set later: each eps and the
    threshold. Past ``nn.Module.__getattr__``, as :func:`tensors_of`."""
    sru, cru = conv._modules['sru'], conv._modules['cru']._modules
    norms = (sru._modules['gn'], cru['squeeze_up_bn'], cru['squeeze_low_bn'],
             cru['bn1'], cru['bn2'])
    # an identity, where a norm was folded before, has none
    return (*[getattr(norm, 'eps', 0.) for norm in norms],
            sru.gate_logit_threshold)


def options_of(conv: nn.Module) -> Options:
    """Of an SCConv."""
    sru, cru = conv.sru, conv.cru
    return Options(
        conv.kernel_size, conv.stride, conv.padding, conv.dilation,
        cru.gwc.groups, sru.gn.num_groups, cru.up_channels,
        *numbers_of(conv))
