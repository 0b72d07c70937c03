"""Class names in other scripts than Latin."""
import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from mmdet_scconv.visualization import fonts

CLASSES = ('猫', 'dog 犬')


@pytest.fixture(autouse=True)
def no_other_fonts(monkeypatch):
    """None but those that matplotlib brings along, also afterwards."""
    own = [f for f in fontManager.ttflist if 'mpl-data' in f.fname]
    monkeypatch.setattr(fontManager, 'ttflist', own)
    monkeypatch.setattr(fonts, 'findSystemFonts', lambda: [])
    fonts.use_font_for.cache_clear()
    with matplotlib.rc_context():
        yield
    fonts.use_font_for.cache_clear()
    fontManager._findfont_cached.cache_clear()


def write_font(path, characters):
    """A font whose glyphs are all the same triangle."""
    pen = TTGlyphPen(None)
    for i, point in enumerate([(0, 0), (300, 700), (600, 0)]):
        pen.lineTo(point) if i else pen.moveTo(point)
    pen.closePath()
    names = ['.notdef', *(f'u{ord(c):04X}' for c in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap(dict(zip(map(ord, characters), names[1:])))
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (650, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable(dict(familyName='Triangles', styleName='Regular'))
    font.setupOS2()
    font.setupPost()
    font.save(str(path))
    return str(path)


@pytest.mark.filterwarnings('error')  # matplotlib's of a missing glyph
def test_a_font_that_was_installed_is_used(tmp_path, monkeypatch):
    paths = [write_font(tmp_path / 'latin.ttf', 'dog '),
             write_font(tmp_path / 'all.ttf', 'dog 猫犬')]
    (tmp_path / 'damaged.ttf').write_bytes(b'no font')
    monkeypatch.setattr(fonts, 'findSystemFonts',
                        lambda: [*paths, str(tmp_path / 'damaged.ttf')])
    assert fonts.use_font_for(CLASSES)
    figure = Figure()
    figure.text(0, 0, CLASSES[1], family='sans-serif')
    figure.savefig(tmp_path / 'figure.png')


def test_a_warning_where_no_font_fits(caplog, monkeypatch):
    said = []
    monkeypatch.setattr(fonts, 'print_log',
                        lambda text, **kwargs: said.append(text))
    assert not fonts.use_font_for(CLASSES)
    assert len(said) == 1
    assert 'the characters 犬猫 of' in said[0] and 'apt install' in said[0]


def test_names_that_the_font_has_change_nothing():
    before = matplotlib.rcParams['font.sans-serif']
    assert fonts.use_font_for(('Wald', 'forêt', 'лес'))
    assert matplotlib.rcParams['font.sans-serif'] == before
