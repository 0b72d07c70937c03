"""What is wrong with a box, in both formats."""
import math

NO_AREA = 'has no area'
OUTSIDE = 'lies outside'
BEYOND = 'reaches out of'
NORMALISED = 'between 0 and 1, not in pixels'
CROWD = 'crowd or difficult'
# share of boxes that cannot be trained on from which a warning is given; 20%
# of VOC's are difficult
LARGE_SHARE = 0.1
LARGE_SHARE_OF_CROWDS = 0.5
# too many to be explained by careless drawing
SHARE_OF_CORNERS = 0.25


def box_problem(box: list, width: float, height: float) -> str | None:
    """The problem of a box (x1, y1, x2, y2) in an image, None if there is
    none. All in pixels."""
    x1, y1, x2, y2 = box
    # VOC's own boxes, and rounded ones, may exceed the image by a pixel
    if -1 <= x1 < x2 <= width + 1 and -1 <= y1 < y2 <= height + 1 and \
            x1 < width and y1 < height and x2 > 0 and y2 > 0:
        return None
    shown = ', '.join(f'{value:g}' for value in box)
    if not all(map(math.isfinite, box)):
        return f'box ({shown}) is not finite'
    if x2 <= x1 or y2 <= y1:
        return f'box ({shown}) {NO_AREA}, left out'
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return (f'box ({shown}) {OUTSIDE} the {width:g} x {height:g} image, '
                'left out')
    return (f'box ({shown}) {BEYOND} the {width:g} x {height:g} image, '
            'clipped')


def is_left_out(problem: str | None) -> bool:
    """Whether a box with this problem is no ground truth."""
    return problem is not None and problem.endswith('left out')


def rotation_of(attributes: object) -> float:
    """The rotation of a box in degrees, from CVAT's attributes; 0 if there is
    none."""
    try:
        return float(attributes['rotation']) % 360
    except (KeyError, TypeError, ValueError):
        return 0.


ROTATED = ('turned by {:g} degrees (attribute "rotation"): the upright box is '
           'used as it is')
