"""What the SRUs make of one image: channels in pictures, gate as overlay."""
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .models import Picture, forward_hooks
from .redundancy import ChannelCovariance, redundancy


@dataclass(frozen=True)
class SRUMaps:
    """One SRU on one image.

    ``x``, ``informative`` (W1 * x), ``damped`` (W2 * x, the non-informative
    part) and ``out`` are (C, H, W); ``gate``, bool, tells which positions of
    which channels passed the threshold.
    """

    name: str
    x: Tensor
    informative: Tensor
    damped: Tensor
    out: Tensor
    gate: Tensor

    @property
    def share(self) -> Tensor:
        """Share of the channels above the threshold: (H, W)."""
        return self.gate.float().mean(0)


def stage_of(model: nn.Module, stage: int) -> tuple[str, nn.Sequential]:
    """Name and blocks of a stage of a detector's backbone.

    Args:
        stage (int): From 1, as papers count.

    Raises:
        ValueError: If there is no such stage.
    """
    names = getattr(model.backbone, 'res_layers', [])
    if not 1 <= stage <= len(names):
        raise ValueError(f'stage={stage} is not valid: '
                         f'{type(model.backbone).__name__} has stages 1 to '
                         f'{len(names)}')
    return names[stage - 1], getattr(model.backbone, names[stage - 1])


def srus_of(model: nn.Module, stage: int) -> dict[str, nn.Module]:
    """The SRUs of a stage, by name.

    Raises:
        ValueError: If the stage has none, or there is no such stage.
    """
    stage_name, blocks = stage_of(model, stage)
    srus = {
        f'{stage_name}.{name}': module
        for name, module in blocks.named_modules() if name.endswith('.sru')
    }
    if not srus:
        raise ValueError(
            f'stage={stage} is not valid: no SRU in it (backbone '
            f"{type(model.backbone).__name__}; units='C' have none)")
    return srus


@torch.no_grad()
def sru_maps(model: nn.Module, picture: Picture, name: str,
             sru: nn.Module) -> SRUMaps:
    """Run the backbone and keep what one SRU saw and gave."""
    seen = {}

    def keep(_, x, out):
        seen.update(x=x, out=out)

    with forward_hooks({name: sru}, keep):
        model.backbone(picture.inputs)
    x = seen['x'].float()
    informative, damped = sru.separate(x)
    gate = sru.gate_logits(x) > sru.gate_logit_threshold
    return SRUMaps(name, *(maps[0].cpu() for maps in (
        x, informative, damped, seen['out'].float(), gate)))


@torch.no_grad()
def stage_output(model: nn.Module, picture: Picture, stage: int,
                 bypass_sru: bool = False) -> Tensor:
    """Output of a stage: (C, H, W).

    Args:
        bypass_sru (bool): Whether the SRUs of this stage hand their input
            on, with the same weights elsewhere. Defaults to False.
    """
    name, blocks = stage_of(model, stage)
    seen = {}
    srus = srus_of(model, stage) if bypass_sru else {}
    with forward_hooks(srus, lambda _, x, out: x), \
            forward_hooks({name: blocks},
                          lambda name, x, out: seen.update({name: out})):
        model.backbone(picture.inputs)
    return seen[name][0].float().cpu()


def top_channels(maps: Tensor, number: int) -> list[int]:
    """The channels that vary most over the positions, most first."""
    deviation = maps.flatten(1).std(1, correction=0)
    return deviation.argsort(descending=True)[:number].tolist()


def show_map(ax, values: Tensor, highest: float, lowest: float = 0.) -> None:
    ax.imshow(values.numpy(), cmap='viridis', vmin=lowest, vmax=highest,
              interpolation='nearest')
    ax.set_xticks([])
    ax.set_yticks([])


def sru_figure(maps: SRUMaps, channels: int = 8) -> Figure:
    """The top channels of an SRU's input in columns; input, informative and
    non-informative part and output in rows. One colour scale a channel."""
    chosen = top_channels(maps.x, channels)
    rows = {
        'input': maps.x,
        'informative\npart': maps.informative,
        'non-informative\npart': maps.damped,
        'output': maps.out
    }
    height, width = maps.x.shape[1:]
    figure = Figure(
        figsize=(1.3 + 1.3 * len(chosen), 0.7 + 5.4 * height / width))
    axes = figure.subplots(len(rows), len(chosen), squeeze=False)
    for i, (label, values) in enumerate(rows.items()):
        for ax, c in zip(axes[i], chosen):
            stack = torch.stack([part[c] for part in rows.values()])
            show_map(ax, values[c], float(stack.amax()), float(stack.amin()))
        axes[i][0].set_ylabel(label, rotation=0, ha='right', va='center')
    for ax, c in zip(axes[0], chosen):
        ax.set_title(f'channel {c}', fontsize=9)
    figure.suptitle(
        f'{maps.name}: the {len(chosen)} of {len(maps.x)} channels that vary '
        'most in its input', fontsize=11)
    figure.tight_layout()
    return figure


def gate_figure(maps: SRUMaps, picture: Picture) -> Figure:
    """The image, and over it which share of the channels passes the gate at
    each position."""
    height, width = picture.pixels.shape[:2]
    padded_height, padded_width = picture.inputs.shape[2:]
    figure = Figure(figsize=(10.5, 0.8 + 4.6 * height / width))
    axes = figure.subplots(1, 2)
    for ax in axes:
        ax.imshow(picture.pixels, extent=(0, width, height, 0))
        ax.set_xticks([])
        ax.set_yticks([])
    overlay = axes[1].imshow(
        100 * maps.share.numpy(),
        extent=(0, padded_width, padded_height, 0),
        cmap='viridis',
        alpha=0.65,
        interpolation='nearest')
    axes[1].set_xlim(0, width)
    axes[1].set_ylim(height, 0)
    axes[0].set_title('image')
    axes[1].set_title(f'gate of {maps.name}')
    figure.colorbar(
        overlay, ax=axes, fraction=0.03, pad=0.02,
        label='channels above the threshold (%)')
    return figure


def channel_grid(ax, maps: Tensor, side: int) -> None:
    """Draw side x side channels as one picture, each on its own scale."""
    chosen = top_channels(maps, side * side)
    height, width = maps.shape[1:]
    gap = max(1, width // 16)
    sheet = np.full((side * (height + gap) - gap, side * (width + gap) - gap),
                    np.nan)
    for i, c in enumerate(chosen):
        values = maps[c] - maps[c].amin()
        y, x = (i // side) * (height + gap), (i % side) * (width + gap)
        sheet[y:y + height, x:x + width] = (
            values / values.amax().clamp(min=1e-12)).numpy()
    ax.imshow(sheet, cmap='viridis', interpolation='nearest')
    ax.axis('off')


def stage_figure(panels: dict[str, Tensor], side: int = 8) -> Figure:
    """Feature maps side by side, as in the poster's Figure 5.

    Args:
        panels (dict): Title and maps (C, H, W) of each; in the title's second
            line goes the redundancy of all their channels.
        side (int): Channels in a row and rows; the ones that vary most.
            Defaults to 8.
    """
    height, width = next(iter(panels.values())).shape[1:]
    figure = Figure(
        figsize=(5 * len(panels), 0.9 + 4.8 * height / width))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, maps) in zip(axes, panels.items()):
        covariance = ChannelCovariance()
        covariance.add(maps[None])
        channel_grid(ax, maps, side)
        ax.set_title(f'{title}\nredundancy of all {len(maps)} channels: '
                     f'{redundancy(covariance.value()):.3f}', fontsize=10)
    figure.tight_layout()
    return figure
