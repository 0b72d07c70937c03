"""Reads a PASCAL VOC annotation and a list of images: repairs what is
harmless, reports what is not."""
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

from .boxes import ROTATED, rotation_of
from .findings import DataError, Findings, read_flag
from .image_files import SUFFIXES

VOC_BOX = ('xmin', 'ymin', 'xmax', 'ymax')
OTHER_SHAPES = ('robndbox', 'polygon', 'segm')
ENCODING = re.compile(rb'^\s*<\?xml[^>]*?encoding\s*=\s*["\']([\w.-]+)["\']')
DECLARATION = re.compile(r'^\s*<\?xml.*?\?>', re.S)
# VOC's own lists of one class have 1, -1 or 0 (difficult) after each name
FLAGGED = re.compile(r'^(\S+)\s+(?:-1|0|1)$')


def parse_xml(content: bytes) -> ET.Element:
    """
    Raises:
        DataError: If it is not XML, or defines entities.
    """
    if not content.strip():
        raise DataError('is empty')
    # nested ones could fill the memory; in UTF-16 there are zeros between the
    # letters
    if b'<!ENTITY' in content.replace(b'\0', b''):
        raise DataError('defines XML entities, which annotations do not need')
    try:
        try:
            return ET.fromstring(content)  # noqa: S314 (without entities)
        except ValueError:  # an encoding that Python's parser does not know
            declared = ENCODING.match(content)
            encoding = declared[1].decode() if declared else 'utf-8'
            # GB 18030 is a superset of GB 2312, and often declared by that
            # name
            if encoding.lower() in ('gb2312', 'gbk'):
                encoding = 'gb18030'
            text = content.decode(encoding)
            return ET.fromstring(  # noqa: S314 (as above)
                DECLARATION.sub('', text, count=1))
    except (ET.ParseError, LookupError, UnicodeDecodeError) as error:
        hint = ''
        if not isinstance(error, ET.ParseError) or 'token' in str(error):
            hint = ' (saved in another encoding than it declares?)'
        raise DataError(f'is not valid XML: {error}{hint}') from error


def strip_namespaces(root: ET.Element) -> None:
    for node in root.iter():
        if isinstance(node.tag, str):
            node.tag = node.tag.rpartition('}')[2]


def read_voc(content: bytes, path: str, findings: Findings) -> ET.Element:
    """Read an annotation. Its objects have a name, a box of four numbers and a
    flag of 0 or 1; other objects are left out and reported.

    Args:
        content (bytes): Of the file.
        path (str): The file's, for messages.
        findings (Findings): Takes what is found.

    Raises:
        DataError: If it is not a VOC annotation.
    """
    root = parse_xml(content)
    if b'xmlns' in content:
        strip_namespaces(root)
    if root.tag != 'annotation':
        raise DataError(f'has the root <{root.tag}>, not a PASCAL VOC file: '
                        '<annotation> is needed')
    for i, node in enumerate(root.findall('object'), start=1):
        written = node.findtext('name') or ''
        name = written.strip()
        called = f'object {i} ({name})' if name else f'object {i}'
        problem = object_problem(node, name)
        if problem:
            findings.refuse(f'{called} {problem}', path)
            root.remove(node)
            continue
        if name != written:
            node.find('name').text = name
            findings.warn(f'{called} has name={written!r}, read as {name!r}',
                          path)
        repair_difficult(node, f'{path}: {called}', findings)
        attributes = node.find('attributes')
        if attributes is not None:
            degrees = rotation_of({
                a.findtext('name'): a.findtext('value')
                for a in attributes.findall('attribute')
            })
            if degrees:
                findings.warn(f'{called}: {ROTATED.format(degrees)}', path)
    return root


def object_problem(node: ET.Element, name: str) -> str | None:
    """Why an object cannot be read, None if it can."""
    if not name:
        return 'has no name: correct or remove it'
    box = node.find('bndbox')
    if box is None:
        other = [tag for tag in OTHER_SHAPES if node.find(tag) is not None]
        if 'robndbox' in other:
            return ('has a rotated box (robndbox) and no bndbox: only upright '
                    'boxes can be trained on, write xmin, ymin, xmax, ymax')
        return 'has no bndbox' + (f', only <{other[0]}>' if other else '') + \
            ': correct or remove it'
    for tag in VOC_BOX:
        text = box.findtext(tag)
        try:
            finite = math.isfinite(float(text))
        except (TypeError, ValueError):
            finite = False
        if not finite:
            return (f'has {tag}={text!r}, which is not a number: '
                    'correct or remove it')
    return None


def repair_difficult(node: ET.Element, called: str, findings: Findings
                     ) -> None:
    difficult = node.find('difficult')
    if difficult is None or difficult.text in ('0', '1'):
        return  # VOC itself leaves it out
    written, flag = difficult.text, read_flag(difficult.text)
    difficult.text = str(flag)
    try:
        int(written)
    except (TypeError, ValueError):
        findings.repair(
            'difficult not written as 0 or 1',
            f'{called}, difficult={written!r} read as {flag}')


def size_in(root: ET.Element) -> tuple[int, int] | None:
    """Width and height as written, None if they are not two numbers above
    0."""
    size = root.find('size')
    try:
        numbers = [float(size.findtext(tag)) for tag in ('width', 'height')]
        width, height = map(int, numbers)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return None
    return (width, height) if min(width, height) > 0 else None


def read_image_set(content: bytes, findings: Findings,
                   is_there: Callable[[str], bool]) -> list[str]:
    """Names of images, one a line.

    Args:
        content (bytes): Of the list.
        findings (Findings): Takes what is found.
        is_there (Callable): Whether a name has an annotation.

    Raises:
        DataError: If it is not text.
    """
    utf16 = content[:2] in (b'\xff\xfe', b'\xfe\xff')
    try:
        text = content.decode('utf-16' if utf16 else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise DataError(f'is not UTF-8 text ({error}): save it as '
                        'UTF-8') from error
    lines = {}
    for i, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line:
            continue
        name = line
        if not is_there(name):
            name = other_name(line, is_there)
            if name != line:
                findings.repair('lines of more than a name',
                                f'line {i}, {line!r} read as {name!r}')
        if lines.setdefault(name, i) != i:
            findings.repair('images listed twice, read once',
                            f'{name!r} in lines {lines[name]} and {i}')
    return list(lines)


def other_name(line: str, is_there: Callable[[str], bool]) -> str:
    """The image that a line names: the line without VOC's second column,
    folders and suffix; the line itself if no annotation fits."""
    flagged = FLAGGED.match(line)
    name = flagged[1] if flagged else line
    stem, dot, ending = name.replace('\\', '/').rpartition('.')
    stems = [name, stem] if dot + ending.lower() in (*SUFFIXES, '.xml') else \
        [name]
    for stem in stems:
        parts = stem.split('/')
        for i in range(len(parts)):
            if is_there('/'.join(parts[i:])):
                return '/'.join(parts[i:])
    return line
