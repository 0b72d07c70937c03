"""One self-contained HTML page about a work dir of tools/train.py.

The page contains everything: images as data URIs, no script, no external link.
If a work dir is incomplete, the page names what is missing. Text goes through
jinja2 (a requirement of torch) with escaping.
"""
import datetime
import os.path as osp

import jinja2

from ..version import __version__
from .report_data import Options, ReportData
from .report_sections import SECTIONS, Section, make_section


def build_report(work_dir: str, options: Options | None = None
                 ) -> tuple[str, list[Section]]:
    """Make the report of a work dir.

    Returns:
        tuple: The page, and its sections.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not osp.isdir(work_dir):
        raise FileNotFoundError(f'no such folder: {work_dir}')
    data = ReportData(work_dir, options or Options())
    sections = [
        make_section(title, fill, data) for title, fill in SECTIONS.items()
    ]
    now = datetime.datetime.now().astimezone()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(osp.dirname(__file__)),
        autoescape=True,
        undefined=jinja2.StrictUndefined)
    page = environment.get_template('report.html').render(
        title=f'Run {osp.basename(osp.abspath(work_dir))}',
        subtitle=f'{osp.abspath(work_dir)}, {now:%Y-%m-%d %H:%M %Z}, '
        f'mmdet-scconv {__version__}',
        sections=sections)
    return page, sections
