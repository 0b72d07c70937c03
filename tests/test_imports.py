"""The rooms of the package, and that imports between them go one way.

What is read is the source, so that imports inside functions count.
"""
import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import REPO

PACKAGE = 'mmdet_scconv'
# A room imports from the levels before its own, and from rooms of its own
# level where no cycle comes of it. The package itself, which imports what
# registers something, is imported by no room.
LEVELS = (
    ('layers', ),
    ('version', 'errors', 'stack', 'atomic', 'hosts', 'memory',
     'memory_format', 'tables', 'config'),
    ('registry', ),
    ('pretrained', ),
    ('backbones', ),
    ('warm_start', 'classification', 'datasets', 'hooks'),
    ('paper', 'benchmark', 'visualization', 'deployment'),
    ('cli', ),
)
LEVEL_OF = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}


def module_name(path, root):
    return '.'.join(path.relative_to(root).with_suffix('').parts
                    ).removesuffix('.__init__')


def statements(tree, inside_functions):
    """All import statements of a module, or those that run when it is
    imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif inside_functions or not isinstance(
                node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(node, inside_functions)


def imported_modules(path, root, names, inside_functions=True):
    """What a file imports from the package, by full name.

    Args:
        path (Path): The file.
        root (Path): The folder that holds the package.
        names (Container[str]): Modules of the package: tells
            ``from package import module`` from an import of a function.
    """
    package = module_name(path, root).split('.')
    if path.name != '__init__.py':
        package.pop()
    for node in statements(ast.parse(path.read_text()), inside_functions):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            above = package[:len(package) - node.level + 1] \
                if node.level else []
            source = '.'.join([*above, *filter(None, [node.module])])
            found = [name if name in names else source for name in (
                f'{source}.{alias.name}' for alias in node.names)]
        yield from (name for name in found
                    if name.split('.')[0] == PACKAGE)


def graph(root, inside_functions=True):
    """For each module of the package what it imports from it."""
    paths = {module_name(path, root): path
             for path in (root / PACKAGE).rglob('*.py')}
    return {
        name: set(imported_modules(path, root, paths, inside_functions))
        for name, path in paths.items()
    }


def room_of(name):
    return (name.split('.') + [''])[1]


def rooms(modules):
    """The imports between rooms: (from, to) -> the modules that do it."""
    found = defaultdict(list)
    for name, imports in modules.items():
        for other in imports if name != PACKAGE else ():
            if room_of(name) != room_of(other):
                found[room_of(name), room_of(other)].append(name)
    return found


def arrows_up(modules):
    """Imports from a room of a later level, or from the package itself."""
    return {
        pair: names for pair, names in rooms(modules).items()
        if LEVEL_OF.get(pair[1], len(LEVELS)) > LEVEL_OF[pair[0]]
    }


def check_acyclic(edges):
    """
    Raises:
        CycleError: Names the members of a cycle.
    """
    nodes = defaultdict(set)
    for source, target in edges:
        nodes[source].add(target)
    TopologicalSorter(nodes).prepare()


MODULES = graph(REPO)


def test_each_room_has_its_level():
    assert {room_of(name) for name in MODULES if name != PACKAGE} == \
        set(LEVEL_OF)


def test_no_import_runs_back_up():
    assert not arrows_up(MODULES)


def test_no_cycle_between_rooms():
    check_acyclic(rooms(MODULES))


def test_no_cycle_between_modules_when_they_are_imported():
    check_acyclic((name, other) for name, imports in graph(
        REPO, inside_functions=False).items() for other in imports)


def top_levels(path):
    """The first parts of all absolute imports of a file; '' for a relative
    one."""
    for node in statements(ast.parse(path.read_text()), True):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        else:
            yield '' if node.level else node.module.split('.')[0]


def test_tools_import_the_package_and_nothing_imports_them():
    """But for make_env.py, which runs before the package can be imported, as
    the other tool that installs."""
    tools = list((REPO / 'tools').rglob('*.py'))
    above = {'tools', 'tests', 'configs', *(path.stem for path in tools)}
    for path in [*tools, *(REPO / PACKAGE).rglob('*.py')]:
        found = set(top_levels(path))
        if path.name == 'offline_stack.py':
            found.remove('make_env')
        assert not found & above, path
        assert path not in tools or '' not in found, path


def write(root, files):
    for name, text in files.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize('statement,expected', [
    ('from ..backbones import SwapResNet', 'backbones'),
    ('from .. import backbones', 'backbones'),
    ('def f():\n    from ..backbones.deploy import deploy', 'backbones'),
    ('if a:\n    import mmdet_scconv.backbones', 'backbones'),
    ('from mmdet_scconv import __version__', ''),
])
def test_an_arrow_up_is_found(statement, expected, tmp_path):
    write(tmp_path, {
        '__init__.py': 'from . import backbones',
        'backbones/__init__.py': '',
        'backbones/deploy.py': 'def deploy():\n    pass',
        'layers/common.py': 'import torch',
        'layers/scconv.py': f'from . import common\n{statement}',
    })
    assert arrows_up(graph(tmp_path)) == {
        ('layers', expected): ['mmdet_scconv.layers.scconv']}


def test_a_cycle_is_found(tmp_path):
    write(tmp_path, {
        'paper/rows.py': 'from ..benchmark import speed',
        'benchmark/speed.py': 'def f():\n    from ..paper import rows',
    })
    assert not arrows_up(graph(tmp_path))
    with pytest.raises(CycleError, match='paper'):
        check_acyclic(rooms(graph(tmp_path)))
