"""README and docs: links, paths, commands and Python blocks hold.

What takes seconds is run. Other commands are parsed by the tool that they
call, and the files that they name are there.
"""
import argparse
import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import torch
from conftest import REPO, call_tool, load_script
from markdown_it import MarkdownIt
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.config import Config
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.utils import get_installed_path

TOP = ('benchmarks', 'configs', 'docs', 'mmdet_scconv', 'tests', 'tools')
MARKDOWN = ['README.md', *sorted(
    str(path.relative_to(REPO)) for name in TOP
    for path in (REPO / name).rglob('*.md'))]
PAGES = [path for path in MARKDOWN if path.startswith(('README', 'docs/'))]

# what the reader puts in their place; the sandbox has the files
CONFIG = 'configs/demo/faster-rcnn_scconv-r18_fpn_9e_digits.py'
PLACEHOLDERS = {
    # names of classes, no placeholders
    'RBC': 'RBC',
    'WBC': 'WBC',
    'CHECKPOINT': 'checkpoint.pth',
    'CONFIG': CONFIG,
    'DENSE.pth': 'dense.pth',
    'DENSE.py': CONFIG,
    'FOLDER': 'folder',
    'IMAGE': 'data/digits/JPEGImages/val_0000.jpg',
    'IMAGES': 'data/digits/JPEGImages',
    'IMAGE_OR_FOLDER': 'data/digits/JPEGImages',
    'JOB_NAME': 'job',
    'OUT.pth': 'out.pth',
    'PARTITION': 'partition',
    'PICTURE': 'data/digits/JPEGImages/val_0000.jpg',
    'SCCONV.py': CONFIG,
    'WORK_DIR': 'work_dirs/mine',
}
TOOLS = 'python tools'
# commands of seconds, in the order of their pages
RUN = (
    f'{TOOLS}/test.py CONFIG CHECKPOINT --show-dir pictures',
    f'{TOOLS}/image_demo.py IMAGE_OR_FOLDER CONFIG CHECKPOINT '
    '--out-dir outputs',
    f'{TOOLS}/dataset_converters/make_digits.py',
    f'{TOOLS}/dataset_converters/make_digit_folders.py',
    f'{TOOLS}/dataset_converters/voc_to_coco.py data/VOCdevkit '
    'VOC2007/ImageSets/Main/trainval.txt --out voc07.json',
    f'{TOOLS}/reproduce.py voc --dry-run',
    f'{TOOLS}/test.py CONFIG CHECKPOINT --deploy',
    f'{TOOLS}/analysis_tools/browse_dataset.py CONFIG',
    f'{TOOLS}/analysis_tools/feature_maps.py IMAGE CONFIG CHECKPOINT '
    '--stage 1',
    f'{TOOLS}/analysis_tools/redundancy.py IMAGES --model CONFIG CHECKPOINT',
    f'{TOOLS}/test.py CONFIG CHECKPOINT --out found.pkl',
    f'{TOOLS}/analysis_tools/pr_curves.py CONFIG found.pkl',
    f'{TOOLS}/misc/check_dataset.py CONFIG',
    f'PYTHONPATH=. {TOOLS}/analysis_tools/get_flops.py my_config.py '
    '--shape 256',
)
# they write what the sandbox has already
MAKERS = tuple(command for command in RUN if '/make_' in command)


@cache
def tokens(page):
    markdown = MarkdownIt('commonmark').enable('table')
    found = markdown.parse((REPO / page).read_text(encoding='utf-8'))
    return [*found, *chain(*(token.children or () for token in found))]


def blocks(page, language):
    return [token.content for token in tokens(page)
            if token.type == 'fence' and token.info == language]


def inline_code(page):
    return [token.content for token in tokens(page)
            if token.type == 'code_inline']


def commands(page):
    """Of bash blocks, and those in the text: each as its source line."""
    lines = [line for block in blocks(page, 'bash')
             for line in block.replace('\\\n', ' ').splitlines()]
    lines += [code for code in inline_code(page)
              if re.match(r'(make|pytest|python|pip) ', code)]
    # without comments, and with single spaces
    lines = [' '.join(re.sub(r'(^|\s)#.*', '', line).split())
             for line in lines]
    return list(dict.fromkeys(filter(None, lines)))


def named(block):
    """NAME.py of a block that starts with it, else None."""
    match = re.match(r'# (\w+\.py)\n', block)
    return match and match[1]


ALL = [(page, command) for page in MARKDOWN for command in commands(page)]


@pytest.fixture
def sandbox(tmp_path, data_home, monkeypatch):
    """A folder like the repository's, with data, to write to."""
    for name in TOP:
        (tmp_path / name).symlink_to(REPO / name)
    (tmp_path / 'setup.py').symlink_to(REPO / 'setup.py')
    (tmp_path / 'data').mkdir()
    for path in (data_home / 'data').iterdir():
        (tmp_path / 'data' / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # names that blocks register, and modules that configs import, go again
    for registry in (MODELS, HOOKS, ROOT_MODELS, ROOT_HOOKS):
        monkeypatch.setattr(registry, '_module_dict',
                            dict(registry._module_dict))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], '__file__', '')).startswith(
                f'{tmp_path}{os.sep}'):
            del sys.modules[name]


def write_named_blocks(page, folder):
    for block in blocks(page, 'python'):
        if named(block):
            (folder / named(block)).write_text(block)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights of CONFIG, as a training saves them."""
    cfg = Config.fromfile(REPO / CONFIG)
    path = tmp_path_factory.mktemp('weights') / 'checkpoint.pth'
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get(
        'classes', tuple('0123456789'))
    torch.save(
        dict(meta=dict(dataset_meta=dict(classes=classes)),
             state_dict=MODELS.build(cfg.model).state_dict()), path)
    return path


def split(command):
    """Environment and words of a command, placeholders replaced."""
    words = shlex.split(command)
    environment = {}
    while re.match(r'[A-Z_]+=', words[0]):
        name, _, value = words.pop(0).partition('=')
        environment[name] = value
    for i, word in enumerate(words):
        if re.fullmatch(r'[A-Z]{2}[A-Z_]+(\.\w+)?', word):
            words[i] = PLACEHOLDERS[word]
    return environment, words


def check_files(words):
    for word in words:
        if word.startswith('mmdet::'):
            path = Path(get_installed_path('mmdet'), '.mim/configs', word[7:])
            assert path.is_file(), word
        elif word.startswith(tuple(f'{name}/' for name in TOP)) or \
                word.endswith('.py'):
            path = re.sub(':(textbook|deploy)$', '', word)  # benchmark.py's
            assert os.path.exists(path), word


class Parsed(BaseException):
    """Ends a tool behind its parser; no tool catches it."""


def parse(script, arguments, monkeypatch):
    """Parse a command line by the tool's own parser, in this process."""
    module = load_script(REPO / script)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    if hasattr(module, 'parse_args'):  # with the tool's own checks
        module.parse_args()
        return
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    with pytest.raises(Parsed):
        module.main()


def check_python(words, environment, monkeypatch):
    if words[0] == '-m' and words[1] == 'pytest':
        check_pytest(words[2:], environment, monkeypatch)
    elif words[0] == '-m':
        assert importlib.util.find_spec(words[1]) or any(
            repr(words[1]) in packages for packages in extras().values())
    else:
        parse(words[0], words[1:], monkeypatch)


def check_pytest(words, environment, monkeypatch):
    """It finds tests."""
    monkeypatch.chdir(REPO)
    # its conftest makes no cache of its own
    monkeypatch.setenv('PYTEST_XDIST_WORKER', 'nested')
    code = pytest.main([*words, '--collect-only', '-q', '-p',
                        'no:cacheprovider', '-p', 'no:xdist'])
    assert code == pytest.ExitCode.OK


def check_script(words, environment, monkeypatch):
    """Run a shell script with stand-ins for Python and srun, and parse what
    they are given."""
    seen = Path('seen.txt').absolute()
    for name in ('srun', 'python'):
        path = Path('bin', name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}\n')
        path.chmod(0o755)
    subprocess.run(
        words, check=True,
        env=dict(os.environ, **environment, PYTHON='python',
                 PATH=f'{Path("bin").absolute()}{os.pathsep}'
                 f'{os.environ["PATH"]}'))
    given = seen.read_text().splitlines()
    script = next(word for word in given if word.startswith('tools/'))
    # torchrun sets it
    monkeypatch.setenv('RANK', '0')
    parse(script, given[given.index(script) + 1:], monkeypatch)


def check_make(words, environment, monkeypatch):
    done = subprocess.run([shutil.which('make'), '-n', *words], cwd=REPO,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def extras():
    """Names of setup.py's extras, and the source of their lists."""
    for node in ast.walk(ast.parse((REPO / 'setup.py').read_text())):
        if isinstance(node, ast.keyword) and node.arg == 'extras_require':
            return {keyword.arg: ast.unparse(keyword.value)
                    for keyword in node.value.keywords}


# in a process of its own: pip imports the standard library's distutils, after
# which setuptools does not work
PARSE_PIP = """
import sys
from pip._internal.commands import create_command
options, requirements = create_command(sys.argv[1]).parse_args(sys.argv[2:])
print(*requirements, *options.editables, sep='\\n')
"""


def check_pip(words, environment, monkeypatch):
    done = subprocess.run([sys.executable, '-c', PARSE_PIP, *words],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for requirement in done.stdout.split():
        match = re.fullmatch(r'\.(?:\[(\w+)\])?|([a-z]+)', requirement)
        assert match, requirement
        assert match[1] is None or match[1] in extras()


def check_nothing(words, environment, monkeypatch):
    """Of the shell's own."""


CHECKS = {
    '.': check_nothing,
    'cd': check_nothing,
    'git': check_nothing,
    'make': check_make,
    'pip': check_pip,
    'pytest': check_pytest,
    'python': check_python,
}


@pytest.mark.parametrize('page,command', ALL, ids=lambda text: text)
def test_commands_are_understood(page, command, sandbox, monkeypatch):
    write_named_blocks(page, sandbox)
    for part in command.split(' && '):
        environment, words = split(part)
        if words[0] not in ('git', '.'):
            check_files(words)
        check = (check_script if words[0].endswith('.sh') else
                 CHECKS[words[0]])
        check(words if check is check_script else words[1:], environment,
              monkeypatch)


@pytest.mark.parametrize(
    'page', [page for page in PAGES if set(commands(page)) & set(RUN)])
def test_commands_run(page, sandbox, checkpoint, monkeypatch):
    write_named_blocks(page, sandbox)
    (sandbox / 'checkpoint.pth').symlink_to(checkpoint)
    (sandbox / 'empty').mkdir()
    for command in commands(page):
        if command not in RUN:
            continue
        environment, (python, script, *arguments) = split(command)
        assert python == 'python'
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            if command in MAKERS:
                patch.chdir(sandbox / 'empty')
            code, output = call_tool(REPO / script, *arguments)
        assert code == 0, f'{command}\n{output[-4000:]}'


def test_commands_that_are_run_are_in_the_docs():
    assert set(RUN) <= {command for _, command in ALL}


def build_all(cfg):
    """What a config names, built without weights and without data."""
    MODELS.build(cfg.model)
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(hook)
    for split_ in ('train', 'val', 'test'):
        dataset = cfg[f'{split_}_dataloader'].dataset
        if 'dataset' not in dataset:
            DATASETS.build(dict(dataset, lazy_init=True))


@pytest.mark.parametrize('page', PAGES)
def test_python_blocks(page, sandbox):
    for i, block in enumerate(blocks(page, 'python')):
        path = sandbox / (named(block) or f'block_{i}.py')
        path.write_text(block)
        if '_base_ = ' in block:
            build_all(Config.fromfile(path))
        elif not named(block):
            load_script(path)
        else:  # for the configs that import it
            compile(block, path, 'exec')


@pytest.mark.parametrize('page', PAGES)
def test_blocks_say_their_language(page):
    languages = {token.info for token in tokens(page)
                 if token.type == 'fence'}
    assert languages <= {'bash', 'python', 'text'}


def expand(pattern):
    """Braces as a shell expands them."""
    match = re.search(r'{([^{}]*)}', pattern)
    if not match:
        return [pattern]
    return chain(*(expand(pattern[:match.start()] + option +
                          pattern[match.end():])
                   for option in match[1].split(',')))


@pytest.mark.parametrize('page', PAGES)
def test_paths_exist(page):
    for code in inline_code(page):
        if not re.fullmatch(rf'({"|".join(TOP)})/\S*', code):
            continue
        for path in expand(code.replace('SLUG', 'scconv-r50')):
            assert any(REPO.glob(path.rstrip('/'))), path


def anchors(path):
    """Of the headings, as GitHub makes them."""
    found = tokens(path)
    titles = [after.content for token, after in zip(found, found[1:])
              if token.type == 'heading_open']
    return [re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-')
            for title in titles]


@pytest.mark.parametrize('page', MARKDOWN)
def test_links_lead_somewhere(page):
    for token in tokens(page):
        link = token.attrGet('href') or token.attrGet('src')
        if not link or re.match(r'https?:', link):
            continue
        path, _, anchor = link.partition('#')
        target = (REPO / page).parent / path if path else REPO / page
        assert target.exists(), link
        if anchor:
            target = str(target.resolve().relative_to(REPO.resolve()))
            assert anchor in anchors(target), link


def test_readme_is_short_and_starts_with_the_two_commands():
    text = (REPO / 'README.md').read_text(encoding='utf-8')
    assert len(text) <= 7000
    first_screen = text.splitlines()[:30]
    assert any(line.startswith('make demo') for line in first_screen)
    assert any(line.startswith('make test') for line in first_screen)


def test_every_page_is_in_the_readme():
    links = {token.attrGet('href') for token in tokens('README.md')}
    assert {page for page in PAGES if page.startswith('docs/')} <= links
