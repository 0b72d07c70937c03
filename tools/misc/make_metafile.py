#!/usr/bin/env python
"""Write model-index.yml, configs/scconv/metafile.yml and configs' READMEs."""
import argparse
from pathlib import Path

from mmdet_scconv.paper.model_index import generated_files

REPO = Path(__file__).resolve().parent.parent.parent


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    for path, text in generated_files().items():
        (REPO / path).write_text(text, encoding='utf-8')
        print(path)


if __name__ == '__main__':
    main()
