#!/usr/bin/env python
"""Detect objects in images: pictures with boxes, and a JSON of predictions."""
import json
import os
import os.path as osp
import sys
from tempfile import TemporaryDirectory

import cv2
from mmdet.apis import DetInferencer
from rich.progress import track

from mmdet_scconv.atomic import write_atomically
from mmdet_scconv.backbones.deploy import deploy_parts
from mmdet_scconv.cli import (
    check_checkpoint,
    errors_in_one_line,
    find_images,
    load_weights,
    new_parser,
    picture_names,
)
from mmdet_scconv.errors import UserError
from mmdet_scconv.memory import is_on_cpu, keep_freed_memory_of
from mmdet_scconv.memory_format import use_channels_last
from mmdet_scconv.visualization.fonts import use_font_for


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument(
        'inputs', nargs='+', help='image files, or folders of images')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out-dir',
        default='outputs',
        help='gets vis/ with the pictures and predictions.json '
        '(default: outputs)')
    parser.add_argument(
        '--device', help='e.g. cpu or cuda:0 (default: a GPU where there is '
        'one)')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='lowest score of a box in the pictures and in the JSON '
        '(default: 0.3)')
    parser.add_argument(
        '--deploy',
        action='store_true',
        help='fold BatchNorms into convolutions: faster, same results but for '
        'rounding')
    return parser.parse_args()


@errors_in_one_line()
def main():
    args = parse_args()
    images = find_images(args.inputs)
    for path in (args.config, args.checkpoint):
        if not osp.isfile(path):
            raise UserError(f'no such file: {path}')
    checkpoint = check_checkpoint(args.checkpoint)
    inferencer = DetInferencer(
        args.config, args.checkpoint, args.device, show_progress=False)
    model = inferencer.model
    keep_freed_memory_of(model)
    load_weights(model, checkpoint, args.checkpoint)
    if is_on_cpu(model):
        use_channels_last(model)
    if args.deploy:
        deploy_parts(model)
    classes = model.dataset_meta['classes']
    use_font_for(tuple(classes))
    pictures = osp.join(args.out_dir, 'vis')
    os.makedirs(pictures, exist_ok=True)
    results, unreadable = [], []
    for image, name in zip(
            track(images, description='images'), picture_names(images)):
        picture = osp.join(pictures, name)
        try:  # MMDetection asserts that an image could be decoded
            with TemporaryDirectory(dir=args.out_dir) as folder:
                found, = inferencer(
                    image, out_dir=folder,
                    pred_score_thr=args.score_thr)['predictions']
                os.makedirs(osp.dirname(picture), exist_ok=True)
                os.replace(
                    osp.join(folder, 'vis', osp.basename(image)), picture)
        except (OSError, AssertionError, ValueError, cv2.error) as error:
            unreadable.append(f'{image}: {error}')
            continue
        results.append(
            dict(
                image=image,
                picture=picture,
                predictions=[
                    dict(
                        label=label,
                        class_name=classes[label],
                        score=score,
                        bbox=bbox) for label, score, bbox in zip(
                            found['labels'], found['scores'], found['bboxes'])
                    if score >= args.score_thr
                ]))
    predictions = osp.join(args.out_dir, 'predictions.json')
    write_atomically(predictions, json.dumps(results, indent=1).encode())
    boxes = sum(len(r['predictions']) for r in results)
    print(f'{boxes} boxes in {len(results)} images: {predictions} '
          f'(bbox: x1, y1, x2, y2 in pixels), pictures in '
          f'{pictures}')
    if unreadable:
        print('Not read:', *unreadable, sep='\n  ', file=sys.stderr)
        raise SystemExit(1)


if __name__ == '__main__':
    main()
