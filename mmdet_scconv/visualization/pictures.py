"""Draws a picture with the annotated and the found boxes."""
import cv2
import mmcv
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .evaluation import Evaluation
from .fonts import use_font_for

TRUTH, FOUND = '#2ca02c', '#d62728'
# inches, and the smallest side in pixels on which text fits
WIDTH, LEAST_SIDE = 4.2, 420
TEXT = dict(fontsize=9, color='white', parse_math=False, clip_on=True)


def draw_box(ax, box, colour: str, text: str, inside: bool) -> None:
    """A box (x1, y1, x2, y2) and a label: above its upper edge, or inside at
    its lower edge."""
    x1, y1, x2, y2 = box
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=1.8,
                  ls='--' if inside else '-', ec=colour))
    # room for a line of text at the picture's upper edge
    line = 0.05 * abs(np.subtract(*ax.get_ylim()))
    ax.text(
        x1,
        y2 if inside else max(y1, line),
        text,
        va='bottom',
        bbox=dict(facecolor=colour, alpha=0.75, pad=0.8, lw=0),
        **TEXT)


def picture_figure(evaluation: Evaluation, index: int,
                   score_thr: float) -> Figure:
    """One image: annotated boxes dashed and green, found ones red with their
    score in percent.

    Args:
        index (int): Of the image in the evaluation.
        score_thr (float): Lowest score of a found box.

    Raises:
        FileNotFoundError: If the image is not there.
    """
    use_font_for(tuple(evaluation.classes))
    info = evaluation.images[index]
    image = mmcv.imread(info['img_path'], channel_order='rgb')
    height, width = image.shape[:2]
    if max(height, width) < LEAST_SIDE:
        factor = LEAST_SIDE / max(height, width)
        image = cv2.resize(
            image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    figure = Figure(figsize=(WIDTH, WIDTH * height / width))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(image, extent=(0, width, height, 0))
    ax.axis('off')
    for instance in info['instances']:
        name = evaluation.classes[instance['bbox_label']]
        if instance['ignore_flag']:
            name += ' (ignored)'
        draw_box(ax, instance['bbox'], TRUTH, name, True)
    found = evaluation.predictions[index]['pred_instances']
    # the highest score last: its label lies over the others
    for score, box, label in sorted(zip(*(found[key].tolist() for key in (
            'scores', 'bboxes', 'labels')))):
        if score >= score_thr:
            draw_box(ax, box, FOUND,
                     f'{evaluation.classes[label]} {100 * score:.0f}', False)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    return figure
