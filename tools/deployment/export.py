#!/usr/bin/env python
"""Export a model to ONNX or torch.export, and check the file.

The backbone is exported in its deployed form (BatchNorms folded). The file
takes any batch size, height and width. It is run in onnxruntime (.pt2: in
PyTorch, from the file) and compared with the model as trained, in PyTorch. If
the outputs differ by more than the tolerance, the file is deleted and the exit
status is 1.

An SRU has a threshold, where rounding can make a large difference. An image
with a value near a threshold is not judged. Each of the others must agree, and
64 of them are needed; therefore small inputs are checked ("judged": how many
of those drawn). The last row is the size of use. It is timed; its difference
is not judged.
"""

from mmdet_scconv.cli import (
    add_cfg_options,
    at_least,
    errors_in_one_line,
    new_parser,
)
from mmdet_scconv.config import read_config
from mmdet_scconv.deployment.export import TOLERANCE, export
from mmdet_scconv.deployment.files import SUFFIXES
from mmdet_scconv.deployment.judge import (
    CHECKED,
    DETECTOR_CHECKED,
    ExportError,
)
from mmdet_scconv.deployment.parts import PARTS, metadata_of, part_of
from mmdet_scconv.paper.complexity import is_classifier
from mmdet_scconv.tables import print_table
from mmdet_scconv.visualization.models import (
    load_model,
    read_picture,
)


def spelled(shapes):
    return ' '.join('x'.join(map(str, shape)) for shape in shapes)


def parse_args():
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', nargs='?', help='its weights (without: random ones)')
    parser.add_argument(
        '--out',
        required=True,
        help=f'file to write; its suffix, one of {SUFFIXES}, is the format')
    parser.add_argument(
        '--part',
        choices=PARTS,
        default='backbone',
        help='what to export (default: backbone)')
    parser.add_argument(
        '--check-shapes',
        nargs='+',
        metavar='NxHxW',
        help='small batch sizes, heights and widths of random images to check '
        f'with (default: {spelled(CHECKED)}; of a detector '
        f'{spelled(DETECTOR_CHECKED)})')
    parser.add_argument(
        '--images',
        nargs='+',
        default=[],
        help='image files to check with as well, read by the test pipeline '
        'and made small')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of use in pixels (default: 800 1344, of a classifier 224 '
        '224)')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=TOLERANCE,
        help='largest difference that is allowed, relative to the largest '
        'value of an output (default: %(default)s)')
    parser.add_argument(
        '--rounds',
        type=at_least(1),
        default=5,
        help='timed runs of each (default: %(default)s)')
    add_cfg_options(parser)
    args = parser.parse_args()
    try:
        args.shapes = args.check_shapes and [
            tuple(int(size) for size in shape.split('x'))
            for shape in args.check_shapes
        ]
    except ValueError:
        parser.error(f'--check-shapes {" ".join(args.check_shapes)}: as '
                     '2x160x128, batch size x height x width')
    return args


def print_comparisons(comparisons, other):
    print_table(
        'Exported file beside PyTorch (medians)',
        ['input', 'compared', 'largest difference', 'relative', 'judged',
         'PyTorch ms', f'{other} ms'],
        [[
            spelled([c.shape]), c.difference.compared,
            f'{c.difference.absolute:.2e}', f'{c.difference.relative:.2e}',
            f'{c.judged} of {c.drawn}', f'{1e3 * c.torch_seconds:.1f}',
            f'{1e3 * c.file_seconds:.1f}'
        ] for c in comparisons])


def run(args):
    cfg = read_config(args.config, args.cfg_options)
    model = load_model(cfg, args.checkpoint)
    images = [read_picture(model, cfg, path).inputs for path in args.images]
    part = part_of(model, args.part, metadata_of(cfg, model))
    if args.checkpoint is None:
        print('Weights are random: no checkpoint was named')
    print(f'{args.part}: {part.metadata["backbone"]}')
    shape = args.shape or ((224, 224) if is_classifier(cfg.model) else
                           (800, 1344))
    runner = 'onnxruntime' if args.out.endswith('.onnx') else '.pt2'
    try:
        comparisons = export(part, args.out, args.shapes, images,
                             [(1, *shape)], args.tolerance, args.rounds)
    except ExportError as error:
        print_comparisons(error.comparisons, runner)
        raise
    print_comparisons(comparisons, runner)
    print('The last row is timed; its difference is not judged')
    print(f'{args.out}: outputs {", ".join(part.outputs)}; metadata '
          f'{", ".join(part.metadata)}')


@errors_in_one_line(ImportError, OSError, ValueError)
def main():
    run(parse_args())


if __name__ == '__main__':
    main()
