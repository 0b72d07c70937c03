"""A font for class names in any script."""
import logging
from functools import cache

import matplotlib
from matplotlib.font_manager import (
    FontProperties,
    findSystemFonts,
    fontManager,
)
from matplotlib.ft2font import FT2Font
from mmengine.logging import print_log


def has_characters(path: str, characters: set[str]) -> bool:
    """Whether a font file has glyphs for all of these."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # a font that FreeType cannot read
        return False
    charmap = font.get_charmap()
    # this font has a frame for every character
    if font.family_name.startswith('Last Resort'):
        return False
    return all(ord(character) in charmap for character in characters)


@cache
def use_font_for(names: tuple[str, ...]) -> bool:
    """Let matplotlib, and with it MMEngine's visualizer, draw names in a font
    that has all their characters; returns whether there is one.

    If none is installed, a warning says once what to do. If the current font
    has them, it stays.

    Args:
        names (tuple): E.g. the classes of a data set.
    """
    characters = {c for name in names for c in name if c.isprintable()}
    families = matplotlib.rcParams['font.sans-serif']
    present = fontManager.findfont(FontProperties(family=['sans-serif']))
    if has_characters(present, characters):
        return True
    # also fonts that were installed after matplotlib listed them
    known = {font.fname for font in fontManager.ttflist}
    for path in (*sorted(known), *sorted(set(findSystemFonts()) - known)):
        if not has_characters(path, characters):
            continue
        if path not in known:
            fontManager.addfont(path)
        family = next(font.name for font in fontManager.ttflist
                      if font.fname == path)
        matplotlib.rcParams['font.sans-serif'] = [family, *families]
        return True
    missing = ''.join(sorted(c for c in characters if not c.isascii()))
    print_log(
        f'No installed font has the characters {missing} of the class names: '
        'pictures show squares instead. Install one, on Debian and Ubuntu '
        'for Chinese, Japanese and Korean: apt install fonts-noto-cjk',
        logger='current', level=logging.WARNING)
    return False
