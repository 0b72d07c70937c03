"""Figures of the SRUs for one image: channels as pictures, the gate as an
overlay."""
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .models import Picture, forward_hooks, inference_copy
from .redundancy import ChannelCovariance, redundancy


@dataclass(frozen=True)
class SRUMaps:
    """One SRU on one image, without the image's padding.

    ``x``, ``informative`` (W1 * x), ``damped`` (W2 * x, the non-informative
    part) and ``out`` are (C, H, W); ``gate``, bool, tells which positions of
    which channels passed the threshold. ``cell``: height and width of a
    position in pixels of the picture.
    """

    name: str
    x: Tensor
    informative: Tensor
    damped: Tensor
    out: Tensor
    gate: Tensor
    cell: tuple[float, float]

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
def sru_maps(model: nn.Module, picture: Picture, name: str) -> SRUMaps:
    """Run the backbone and keep the input and the output of one SRU.

    Args:
        name (str): One of :func:`srus_of`.
    """
    model, seen = inference_copy(model), {}
    sru = model.backbone.get_submodule(name)

    def keep(_, x, out):
        seen.update(x=x, out=out)

    with forward_hooks({name: sru}, keep):
        model.backbone(picture.inputs)
    x = seen['x'].float()
    informative, damped = sru.separate(x)
    gate = sru.gate_logits(x) > sru.gate_logit_threshold
    return SRUMaps(
        name, *(picture.crop(maps[0]).cpu() for maps in (
            x, informative, damped, seen['out'].float(), gate)),
        cell=(picture.inputs.shape[2] / x.shape[2],
              picture.inputs.shape[3] / x.shape[3]))


@torch.no_grad()
def stage_output(model: nn.Module, picture: Picture, stage: int,
                 bypass_sru: bool = False) -> Tensor:
    """Output of a stage, without the image's padding: (C, H, W).

    Args:
        bypass_sru (bool): Whether the SRUs of this stage return their input.
            Defaults to False.
    """
    model, seen = inference_copy(model), {}
    name, blocks = stage_of(model, stage)
    srus = srus_of(model, stage) if bypass_sru else {}
    with forward_hooks(srus, lambda _, x, out: x), \
            forward_hooks({name: blocks},
                          lambda name, x, out: seen.update({name: out})):
        model.backbone(picture.inputs)
    return picture.crop(seen[name][0]).float().cpu()


def top_channels(maps: Tensor, number: int) -> list[int]:
    """The channels with the largest variance over the positions, in descending
    order."""
    deviation = maps.flatten(1).std(1, correction=0)
    return deviation.argsort(descending=True)[:number].tolist()


def sru_figure(maps: SRUMaps, channels: int = 8) -> Figure:
    """The top channels of an SRU's input in columns; input, informative and
    non-informative part and output in rows. A channel has one colour scale;
    its non-informative part, which is faint, has its own."""
    chosen = top_channels(maps.x, channels)
    rows = {
        'input': maps.x,
        'informative\npart': maps.informative,
        'non-informative\npart (own scale)': maps.damped,
        'output': maps.out
    }
    height, width = maps.x.shape[1:]
    figure = Figure(
        figsize=(1.6 + 1.3 * len(chosen), 1.1 + 5.4 * height / width))
    axes = figure.subplots(len(rows), len(chosen), squeeze=False)
    for row, (label, values) in zip(axes, rows.items()):
        for ax, c in zip(row, chosen):
            scale = maps.damped[c] if values is maps.damped else torch.stack(
                [maps.x[c], maps.informative[c], maps.out[c]])
            ax.imshow(
                values[c].numpy(),
                vmin=float(scale.amin()),
                vmax=float(scale.amax()),
                interpolation='nearest')
            ax.set_xticks([])
            ax.set_yticks([])
        row[0].set_ylabel(label, rotation=0, ha='right', va='center')
    for ax, c in zip(axes[0], chosen):
        ax.set_title(f'channel {c}', fontsize=9)
    for ax, c in zip(axes[2], chosen):
        share = maps.damped[c].abs().amax() / maps.x[c].abs().amax().clamp(
            min=1e-12)
        ax.set_xlabel(f'max {100 * share:.0f}% of input', fontsize=7.5)
    figure.suptitle(
        f'{maps.name}: the {len(chosen)} of {len(maps.x)} channels that vary '
        'most in its input', fontsize=11)
    figure.tight_layout()
    return figure


def gate_figure(maps: SRUMaps, picture: Picture) -> Figure:
    """The image, and on a grey copy the share of the channels that passes the
    gate at each position."""
    height, width = picture.pixels.shape[:2]
    figure = Figure(figsize=(10.5, 0.6 + 4.6 * height / width),
                    layout='constrained')
    axes = figure.subplots(1, 2)
    extent = (0, width, height, 0)
    axes[0].imshow(picture.pixels, extent=extent)
    axes[1].imshow(picture.pixels.mean(2), cmap='gray', extent=extent)
    rows, columns = maps.share.shape
    overlay = axes[1].imshow(
        100 * maps.share.numpy(),
        # the last cells may cover padding, too
        extent=(0, columns * maps.cell[1], rows * maps.cell[0], 0),
        alpha=0.6,
        interpolation='nearest')
    for ax, title in zip(axes, ('image', f'gate of {maps.name}')):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
        ax.set_title(title)
    bar = figure.colorbar(
        overlay, ax=axes, shrink=0.85,
        label='channels above the threshold (%)')
    bar.solids.set_alpha(1)
    return figure


def channel_grid(ax, maps: Tensor, chosen: list[int], side: int) -> None:
    """Draw channels as one picture, ``side`` in a row, each on its own
    scale."""
    height, width = maps.shape[1:]
    gap = max(1, width // 16)
    sheet = np.full((side * (height + gap) - gap, side * (width + gap) - gap),
                    np.nan)
    for i, c in enumerate(chosen):
        values = maps[c] - maps[c].amin()
        y, x = (i // side) * (height + gap), (i % side) * (width + gap)
        sheet[y:y + height, x:x + width] = (
            values / values.amax().clamp(min=1e-12)).numpy()
    ax.imshow(sheet, interpolation='nearest')
    ax.axis('off')


def stage_figure(panels: dict[str, Tensor], side: int = 8,
                 aligned: bool = False) -> Figure:
    """Feature maps side by side, as in the poster's Figure 5.

    Args:
        panels (dict): Title and maps (C, H, W) of each; the redundancy of all
            their channels is added to the title.
        side (int): Number of rows, and of channels in a row; those that vary
            most are shown. Defaults to 8.
        aligned (bool): Whether all panels show the same channels, chosen by
            the last panel, at the same places. Defaults to False.
    """
    height, width = next(iter(panels.values())).shape[1:]
    figure = Figure(
        figsize=(5 * len(panels), 0.9 + 4.8 * height / width))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    last = list(panels.values())[-1]
    for ax, (title, maps) in zip(axes, panels.items()):
        chosen = top_channels(last if aligned else maps, side * side)
        covariance = ChannelCovariance()
        covariance.add(maps[None])
        channel_grid(ax, maps, chosen, side)
        ax.set_title(f'{title}\nredundancy of all {len(maps)} channels: '
                     f'{redundancy(covariance.value()):.3f}', fontsize=10)
    figure.tight_layout()
    return figure
