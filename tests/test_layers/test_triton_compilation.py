"""How much Triton compiles for the kernels: for an H100, without a GPU.

Nothing is launched; in most tests nothing is compiled either, what would be
is counted.
"""
import contextlib
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from reference import randomise  # noqa: E402

from mmdet_scconv.layers import SCConv  # noqa: E402
from mmdet_scconv.layers.kernels import (  # noqa: E402
    compare,
    gpu,
    gpu_batches,
)
from mmdet_scconv.layers.kernels.parameters import (  # noqa: E402
    options_of,
    tensors_of,
)

pytestmark = pytest.mark.skipif(
    not gpu.HAS_TRITON or gpu.INTERPRETED,
    reason='needs triton, and its compiler instead of the interpreter')
if gpu.HAS_TRITON:
    import triton
    from triton.backends.compiler import GPUTarget

    from mmdet_scconv.layers.kernels import triton_scconv
    from mmdet_scconv.layers.kernels.triton_scconv import plan

# H and W of ten images in a stage of stride 16, some even, some odd
SIZES = [(50, 84), (50, 68), (42, 50), (37, 84), (49, 63), (32, 48), (25, 42),
         (64, 64), (1, 1), (7, 160)]
LAYOUTS = (torch.channels_last, torch.contiguous_format)
USES = ('inference', 'training', 'deployed')
# of a training at batch statistics: the SRU's, and the end of the CRU's
AT_BATCH_STATISTICS = 6 + 6


class H100:
    """What Triton asks its driver for."""

    name = 'an H100 that is not there'

    def get_current_target(self):
        return GPUTarget('cuda', 90, 32)

    def get_current_device(self):
        return self.name

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def nothing_launched(monkeypatch):
    monkeypatch.setattr(triton.runtime.driver, '_active', H100())
    monkeypatch.setattr(triton_scconv.Launch, '__call__',
                        lambda *args, **kwargs: None)
    monkeypatch.setattr(triton_scconv.Launch, 'keep', lambda *args: None)
    plan.make_plan.cache_clear()


@pytest.fixture
def forms(nothing_launched, monkeypatch):
    """The kernels that would be compiled, each with what it is compiled
    for."""
    found = set()
    monkeypatch.setattr(gpu_batches, 'compared', lambda *args: True)
    monkeypatch.setattr(gpu_batches, 'may_run', lambda *args: True)

    def note(*, key, fn, **_):
        found.add((fn.name, key))
        return True  # instead of compiling

    monkeypatch.setattr(triton.knobs.runtime, 'jit_cache_hook', note)
    return found


def layer(channels=64, stride=1, use='training'):
    conv = SCConv(channels, channels, 3, stride, padding=1, bias=False,
                  gn_groups=8)
    conv = randomise(conv).eval()
    return conv.deploy(torch.nn.BatchNorm2d(channels).eval()) \
        if use == 'deployed' else conv


def run(conv, use, size, layout=torch.channels_last, dtype=torch.bfloat16,
        batch=1):
    channels = gpu.form_of(conv)[1]
    x = torch.empty(batch, channels, *size, dtype=dtype).to(
        memory_format=layout)
    if use == 'inference':
        with torch.no_grad():
            kernels(conv, x)
    else:
        out = kernels(conv, x.requires_grad_(use == 'training'))
        if use == 'training':
            out.backward(torch.empty_like(out))


def kernels(conv, x):
    return gpu.run(x, gpu.Call.of(conv, x))


@pytest.mark.parametrize('use', USES)
def test_any_size_is_compiled_once(use, forms):
    """A detector sees many sizes: in channels_last they share the code."""
    conv = layer(use=use)
    for batch, size in enumerate(SIZES, 1):
        run(conv, use, size, batch=batch)
    assert len(forms) == (15 if use == 'training' else 5), sorted(forms)


def run_at_batch_statistics(conv, size, layout=torch.channels_last, batch=2,
                            begin=0):
    """Without the convolutions, which would want weights of bfloat16.

    Args:
        begin (int): Element of their memory at which maps and gradients do.
    """
    def maps(channels):
        shape = batch, channels, *size
        if layout == torch.channels_last:
            shape = batch, *size, channels
        x = torch.empty(math.prod(shape) + begin, dtype=torch.bfloat16)
        x = x[begin:].view(shape)
        return x.permute(0, 3, 1, 2) if layout == torch.channels_last else x

    def inputs(*widths):
        return [maps(width).requires_grad_() for width in widths]

    channels = conv.in_channels
    parts = gpu_batches.sru_by_kernels(conv, *inputs(channels))
    out = gpu_batches.run_end_of_cru(conv.cru, *inputs(
        channels, channels, channels // 2, channels // 2))
    torch.autograd.backward([*parts, out], [
        maps(t.shape[1]) for t in (*parts, out)])


@pytest.mark.parametrize('channels', [64, 24])
def test_any_size_is_compiled_once_at_batch_statistics(channels, forms):
    conv = layer(channels).train()
    for batch, size in enumerate(SIZES, 1):
        run_at_batch_statistics(conv, size, batch=batch)
    assert len(forms) == AT_BATCH_STATISTICS, sorted(forms)


def test_sizes_of_contiguous_maps_at_batch_statistics(forms):
    conv = layer().train()
    for size in SIZES:
        if size != (1, 1):
            run_at_batch_statistics(conv, size, torch.contiguous_format)
    # those that read or write maps of a training
    assert len(forms) == AT_BATCH_STATISTICS + 8, sorted(forms)


@pytest.mark.parametrize('use', USES)
def test_sizes_of_contiguous_maps(use, forms):
    """There pixels are neighbours in memory: loads are vectors where their
    number is a multiple of 16. A single pixel is channels_last as well."""
    conv = layer(use=use)
    for size in SIZES:
        if size != (1, 1):
            run(conv, use, size, torch.contiguous_format)
    # those that read or write x, y, dY or dx
    of_maps = 9 if use == 'training' else 3
    assert len(forms) == (15 if use == 'training' else 5) + of_maps


def test_a_map_that_begins_anywhere(forms):
    """As a part of the channels of one image. A launch is used again for all
    maps of a size: one compiled for whole ones must fit it."""
    conv = layer()
    whole = torch.empty(1, 64, 5, 7, dtype=torch.bfloat16)
    part = torch.empty(1, 65, 5, 7, dtype=torch.bfloat16)[:, 1:]
    assert part.is_contiguous() and part.data_ptr() % 16
    for x in (whole, part):
        out = kernels(conv, x.requires_grad_())
        out.backward(torch.empty_like(out))
    assert len(forms) == 15


@pytest.mark.parametrize('use', USES)
def test_parameters_that_begin_anywhere(use, monkeypatch, nothing_launched):
    """As those of a training that keeps all in one buffer (ZeRO): kernels
    were compiled for others, and would read them wrongly or not at all."""
    launched = []
    monkeypatch.setattr(triton_scconv.Launch, 'compile', lambda *args: None)
    monkeypatch.setattr(triton_scconv.Launch, '__call__',
                        lambda self, *arrays, **_: launched.extend(arrays))
    conv = layer(use=use)
    for tensor in (*conv.parameters(), *conv.buffers()):
        if tensor.dtype == torch.float32:
            buffer = torch.empty(tensor.numel() + 1)
            tensor.data = buffer[1:].view(tensor.shape)
            assert tensor.data_ptr() % 16
    run(conv, use, (5, 7))
    assert launched and not any(
        array.data_ptr() % 16 for array in launched)


def test_what_begins_anywhere_at_batch_statistics(monkeypatch, forms):
    launched = []
    monkeypatch.setattr(triton_scconv.Launch, 'compile', lambda *args: None)
    monkeypatch.setattr(triton_scconv.Launch, '__call__',
                        lambda self, *arrays, **_: launched.extend(arrays))
    conv = layer().train()
    for tensor in (*conv.parameters(), *conv.buffers()):
        buffer = torch.empty(tensor.numel() + 1, dtype=tensor.dtype)
        tensor.data = buffer[1:].view(tensor.shape)
        assert tensor.data_ptr() % 16
    run_at_batch_statistics(conv, (5, 7), begin=1)
    assert launched and not any(
        array.data_ptr() % 16 for array in launched)


@pytest.mark.parametrize('name', ['sru.gn.bias', 'cru.bn2.bias',
                                  'cru.bn1.running_var'])
def test_plans_of_other_types(name, forms):
    """A launch that was compiled for one type is not used for another."""
    conv = layer().train()
    run_at_batch_statistics(conv, (5, 7))
    before = plan.make_plan.cache_info().misses
    tensor = {**dict(conv.named_parameters()),
              **dict(conv.named_buffers())}[name]
    tensor.data = tensor.double()
    run_at_batch_statistics(conv, (5, 7))
    assert plan.make_plan.cache_info().misses > before


def test_a_launch_that_was_compiled():
    """Gets pointers, then numbers and constants in the kernel's order."""
    launch = triton_scconv.Launch(
        triton_scconv.device.fuse.reduce_kernel, (1, 2), (3, 4, 5), BN=32,
        ROWS=16, BB=128)
    calls = []

    class Compiled:
        def __getitem__(self, grid):
            return lambda *args, **kwargs: calls.append((grid, args, kwargs))

    launch.keep(Compiled())
    x = torch.empty(8)
    part, = triton_scconv.launch.Parts((4, torch.float32)).allocate(x.device)
    launch(x, part, stream=7)
    assert calls == [((1, 2, 1), (
        x.data_ptr(), part.tensor().data_ptr(), 3, 4, 5, 16, 32, 128),
        dict(stream=7))]


def test_parts_do_not_overlap():
    sizes = (3, torch.float32), (5, torch.bfloat16), (1, torch.float32)
    parts = triton_scconv.launch.Parts(*sizes).allocate(torch.device('cpu'))
    for number, (part, (size, dtype)) in enumerate(zip(parts, sizes)):
        assert part.tensor().shape == (size, ) and part.data_ptr() % 16 == 0
        assert part.tensor().dtype == dtype
        part.tensor().fill_(number)
    assert [part.tensor().unique().item() for part in parts] == [0, 1, 2]


def test_the_device_of_the_map(nothing_launched, monkeypatch):
    """Not the current one: init_detector(..., device='cuda:1')."""
    entered, launched = [], []

    @contextlib.contextmanager
    def device_of(x):
        entered.append(x)
        yield
        entered.pop()

    monkeypatch.setattr(torch.cuda, 'device_of', device_of)
    monkeypatch.setattr(triton_scconv.Launch, 'compile', lambda *args: None)
    monkeypatch.setattr(triton_scconv.Launch, '__call__',
                        lambda *args, **kwargs: launched.append(
                            list(entered)))
    run(layer(), 'training', (5, 7))
    assert [len(tensors) for tensors in launched] == [1] * 15


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
@pytest.mark.parametrize('use', USES)
def test_the_comparison_compiles_what_is_used(use, layout, forms):
    conv = layer(stride=2, use=use)
    compare.largest_difference(
        compare.Subject(conv, kernels, compare.define_layer), 64, compare.Use(
            torch.device('cpu'), torch.bfloat16, torch.bfloat16,
            layout == torch.channels_last, use == 'training'))
    compared = set(forms)
    run(conv, use, (64, 64), layout)
    assert forms == compared


@pytest.mark.parametrize('use,number', [('inference', 23), ('training', 62),
                                        ('deployed', 23)])
def test_a_resnet(use, number, forms):
    """The first use of a ResNet-50's SCConvs: 7 forms of layers, which share
    what does not depend on the stride."""
    for channels, strides in ((64, [1]), (128, [2, 1]), (256, [2, 1]),
                              (512, [2, 1])):
        for stride in strides:
            run(layer(channels, stride, use), use, (32, 48))
    assert len(forms) == number


def test_code_does_not_grow_with_the_width(nothing_launched, monkeypatch,
                                           tmp_path):
    """Unrolled over the channels, the squeeze kernel of a C = 512 took 12 s
    to compile."""
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    lines = []
    for channels in (256, 1024):
        parameters = triton_scconv.Parameters(
            *tensors_of(layer(channels)))
        x = torch.empty(1, channels, 8, 8, dtype=torch.bfloat16).to(
            memory_format=torch.channels_last)
        launch = plan.plan_of(
            triton_scconv.forward.ForwardPlan, x, True, x.dtype, parameters,
            options_of(layer(channels)), False).first_squeeze
        compiled = launch.kernel.warmup(
            x, *4 * [torch.empty(8)], *parameters.gate, *parameters.squeezes,
            *launch.numbers, grid=launch.grid, **launch.options,
            **launch.constants)
        lines.append(len(compiled.asm['ptx'].splitlines()))
    assert lines[1] < 1.5 * lines[0]


def test_memory_of_many_sizes(forms):
    """Plans are dropped; what Triton keeps does not depend on the size."""
    conv = layer(use='inference')
    limit = plan.make_plan.cache_info().maxsize
    kept = triton_scconv.device.squeeze.squeeze_kernel.device_caches[H100.name]
    run(conv, 'inference', (2, 2))
    before = [len(cache) for cache in kept[:2]]
    for width in range(3, limit + 50):
        run(conv, 'inference', (2, width))
    assert plan.make_plan.cache_info().currsize == limit
    assert [len(cache) for cache in kept[:2]] == before
