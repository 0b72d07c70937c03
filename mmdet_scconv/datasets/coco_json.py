"""Reads a COCO annotation file: repairs what is harmless, reports what is not.
It works on whole columns, as such a file has a million boxes."""
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from .coco_boxes import check_boxes, repair_areas, repair_boxes
from .findings import DataError, Findings, read_flag
from .image_files import ImageFolder

IDS = {int, str}
TEXT_TO_NUMBER = 'ids that are text in one place and numbers in another, ' \
    'read as numbers'


def plain(values: Iterable, types: set) -> bool:
    """Whether all values are of these types, exactly: True is no number."""
    return set(map(type, values)) <= types


def column(entries: list[dict], key: str) -> list:
    return [entry.get(key) for entry in entries]


def as_number(value: object) -> object:
    """Convert text or a float that stands for a whole number; anything else
    stays as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() else value
    return value


def read_json(path: str) -> dict:
    """
    Raises:
        DataError: If it is not JSON with an object at the top.
    """
    with open(path, 'rb') as f:
        content = f.read()
    if not content.strip():
        raise DataError('is empty')
    try:  # UTF-8, UTF-16 or UTF-32, with or without byte order mark
        data = json.loads(content)
    except UnicodeDecodeError as error:
        raise DataError(f'is not UTF-8 text, as JSON has to be ({error}): '
                        'save it as UTF-8') from error
    except (ValueError, RecursionError) as error:
        raise DataError(f'is not valid JSON: {error}') from error
    if not isinstance(data, dict):
        raise DataError(f'is a JSON {type(data).__name__}, no COCO annotation '
                        "file: an object with 'images', 'annotations' and "
                        "'categories'")
    return data


def coco_content(images: list[dict], annotations: list[dict],
                 classes: Sequence[str]) -> dict:
    """The content of a COCO file; ids of categories count from 1."""
    categories = [dict(id=i, name=name)
                  for i, name in enumerate(classes, start=1)]
    return dict(
        images=images, annotations=annotations, categories=categories)


class CocoReader:
    """Repairs the content of one file.

    Args:
        data (dict): The file's content; its entries are changed.
        findings (Findings): Takes what is found.
        images (ImageFolder | None): Where the images are, if that is known;
            their sizes are read where those in the file are doubtful.
    """

    def __init__(self, data: dict, findings: Findings,
                 images: ImageFolder | None = None) -> None:
        self.findings = findings
        self.images = images
        self.lists, self.indices = {}, {}
        for key in ('images', 'categories', 'annotations'):
            self.lists[key] = self.entries(data, key)
        self.data = data

    def entries(self, data: dict, key: str) -> list[dict]:
        entries = data.get(key)
        if entries is None and key == 'annotations':
            return []  # a test set
        if not isinstance(entries, list):
            raise DataError(f'has no list {key!r}')
        if key == 'categories' and not entries:
            raise DataError("has an empty list 'categories': it has to name "
                            'the classes')
        self.indices[key] = entries
        if plain(entries, {dict}):
            return entries
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self.findings.refuse(f'{key}[{i}] is {entry!r}, not an object')
        return [entry for entry in entries if isinstance(entry, dict)]

    def name(self, key: str, entry: dict) -> str:
        """The name of an entry in messages, by its place in the file."""
        places = self.indices[key]
        if isinstance(places, list):
            places = self.indices[key] = {
                id(e): i for i, e in enumerate(places)
            }
        called = entry.get('file_name') if key == 'images' else \
            f'id {entry.get("id")!r}'
        return f'{key}[{places[id(entry)]}] ({called})'

    def refuse(self, key: str, entry: dict, text: str) -> None:
        self.findings.refuse(f'{self.name(key, entry)} {text}')

    def need(self, key: str, field: str, types: set, what: str) -> None:
        """Leave out entries whose field is missing or of another type."""
        values = column(self.lists[key], field)
        if plain(values, types):
            return
        kept = []
        for entry, value in zip(self.lists[key], values):
            if type(value) is float and int in types:
                value = entry[field] = as_number(value)
            if type(value) in types:
                kept.append(entry)
            elif field not in entry:
                self.refuse(key, entry, f'has no {field}')
            else:
                self.refuse(key, entry,
                            f'has {field}={value!r}, which is no {what}')
        self.lists[key] = kept

    def unique(self, key: str, field: str) -> None:
        """ Refuse duplicates; both entries are named."""
        values = column(self.lists[key], field)
        if len(set(values)) == len(values):
            return
        first, kept = {}, []
        for entry, value in zip(self.lists[key], values):
            if value in first:
                self.refuse(
                    key, entry, f'has the {field} {value!r}, as has '
                    f'{self.name(key, first[value])}: remove one, or give it '
                    'its own')
            else:
                first[value] = entry
                kept.append(entry)
        self.lists[key] = kept

    def match_ids(self, key: str, field: str) -> None:
        """``field`` of the annotations names entries of ``key``."""
        annotations, entries = self.lists['annotations'], self.lists[key]
        ids = set(column(entries, 'id'))
        unknown = set(column(annotations, field)) - ids
        if unknown and not (plain(ids, {int}) and plain(unknown, {int})):
            changed = 0
            for entries_, name in ((entries, 'id'), (annotations, field)):
                for entry in entries_:
                    number = as_number(entry[name])
                    changed += number is not entry[name]
                    entry[name] = number
            if changed:
                self.findings.repair(TEXT_TO_NUMBER, f'{key} and {field}',
                                     changed)
            self.unique(key, 'id')
            ids = set(column(self.lists[key], 'id'))
            unknown = set(column(annotations, field)) - ids
        if not unknown:
            return
        for ann in annotations:
            if ann[field] in unknown:
                self.refuse('annotations', ann,
                            f'is of {field} {ann[field]!r}, which is not '
                            f'among the {key}')
        self.lists['annotations'] = [
            ann for ann in annotations if ann[field] not in unknown
        ]

    def repair_names(self) -> None:
        """Repair categories with space around their name, or with the same
        name."""
        for category in self.lists['categories']:
            name = category['name']
            if name != name.strip():
                self.findings.warn(f'{self.name("categories", category)} has '
                                   f'name={name!r}, read as {name.strip()!r}')
                category['name'] = name.strip()
        names = Counter(column(self.lists['categories'], 'name'))
        if max(names.values(), default=0) < 2:
            return
        boxes = Counter(column(self.lists['annotations'], 'category_id'))
        first, left_out = {}, []
        # those with boxes first: the root class of an export has none
        for category in sorted(self.lists['categories'],
                               key=lambda c: -boxes[c['id']]):
            name = category['name']
            if name not in first:
                first[name] = category
                continue
            left_out.append(id(category))
            if boxes[category['id']]:
                self.refuse(
                    'categories', category,
                    f'has the name {name!r}, as has '
                    f'{self.name("categories", first[name])}; both have '
                    'boxes: give them one id, or two names')
            else:
                self.findings.repair(
                    'categories without a box, with the name of another one, '
                    'passed over', self.name('categories', category))
        self.lists['categories'] = [
            category for category in self.lists['categories']
            if id(category) not in left_out
        ]

    def repair_flags(self, field: str) -> None:
        values = column(self.lists['annotations'], field)
        # iscrowd is required, ignore is rare
        allowed = {int} if field == 'iscrowd' else {int, type(None)}
        if plain(values, allowed) and set(values) <= {0, 1, None}:
            return
        for ann, value in zip(self.lists['annotations'], values):
            if type(value) is int and value in (0, 1) or \
                    field == 'ignore' and value is None:
                continue
            ann[field] = read_flag(value)
            self.findings.repair(
                f'{field} missing' if value is None else
                f'{field} not written as 0 or 1',
                f'{self.name("annotations", ann)}, {field}={value!r} read as '
                f'{ann[field]}')

    def repair_annotation_ids(self) -> None:
        """Evaluation takes an id of 0 for "no match", and needs numbers."""
        annotations = self.lists['annotations']
        ids = column(annotations, 'id')
        if plain(ids, {int}) and len(set(ids)) == len(ids) and \
                min(ids, default=1) > 0:
            return
        seen, kept, copies = {}, [], []
        for ann in annotations:
            value = ann.get('id')
            twin = seen.get(repr(value)) if value is not None else None
            if twin is not None and all(
                    twin.get(key) == ann.get(key)
                    for key in ('image_id', 'category_id', 'bbox')):
                copies.append((ann, twin))
                continue
            if type(value) is not int or value <= 0 or twin is not None:
                what = ('missing or not a number' if type(value) is not int
                        else 'used twice' if twin is not None else
                        'of 0 or less, which evaluation takes for "no match"')
                self.findings.repair(f'annotation ids {what}, numbered anew',
                                     self.name('annotations', ann))
            seen.setdefault(repr(value), ann)
            kept.append(ann)
        for ann, twin in copies:
            self.findings.repair(
                'duplicate annotations, read once',
                f'{self.name("annotations", ann)} and '
                f'{self.name("annotations", twin)}')
        for i, ann in enumerate(kept, start=1):
            ann['id'] = i
        self.lists['annotations'] = kept

    def read(self) -> dict:
        """The repaired content, without the refused entries."""
        self.need('images', 'id', IDS, 'number')
        self.need('images', 'file_name', {str}, 'name')
        self.unique('images', 'id')
        self.unique('images', 'file_name')
        self.need('categories', 'id', IDS, 'number')
        for category in self.lists['categories']:
            if type(category.get('name')) in (int, float):
                category['name'] = str(category['name'])
        self.need('categories', 'name', {str}, 'name')
        self.unique('categories', 'id')
        self.need('annotations', 'image_id', IDS, 'number')
        self.need('annotations', 'category_id', IDS, 'number')
        self.match_ids('images', 'image_id')
        self.match_ids('categories', 'category_id')
        self.repair_names()
        self.repair_annotation_ids()
        self.repair_flags('iscrowd')
        self.repair_flags('ignore')
        boxes = repair_boxes(self)
        repair_areas(self)
        check_boxes(self, boxes)
        self.data.update(self.lists)
        return self.data
