"""Writes figures as files (PNG and SVG) and into a page."""
import base64
import io
import os

from matplotlib.figure import Figure

FORMATS = ('png', 'svg')
MIME = dict(png='image/png', svg='image/svg+xml', jpg='image/jpeg')


def save_figure(figure: Figure, prefix: str, dpi: int = 150) -> list[str]:
    """Write PREFIX.png and PREFIX.svg; makes the folder.

    Returns:
        list: The paths.
    """
    os.makedirs(os.path.dirname(os.path.abspath(prefix)), exist_ok=True)
    paths = [f'{prefix}.{end}' for end in FORMATS]
    for path in paths:
        figure.savefig(path, dpi=dpi, bbox_inches='tight')
    return paths


def data_uri(figure: Figure, form: str = 'svg', dpi: int = 100) -> str:
    """The figure as the value of an ``<img src>``.

    Args:
        form (str): 'svg', 'png', or 'jpg' for photographs, which get no
            margin.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=dpi, bbox_inches='tight',
                   pad_inches=0 if form == 'jpg' else 0.1)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'data:{MIME[form]};base64,{data}'
