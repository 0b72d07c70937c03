"""Random images with annotations, for any detector."""
import numpy as np
from mmdet.testing import (
    demo_mm_inputs,
    demo_mm_proposals,
    demo_track_inputs,
)

NUM_IMAGES = 2
NUM_BOXES = 3


def num_classes(model: dict) -> int:
    """The number of classes of the head with the fewest."""
    found = [model['num_classes']] if isinstance(
        model.get('num_classes'), int) else []
    parts = [
        part for value in model.values()
        for part in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(part, dict)
    ]
    return min([*found, *map(num_classes, parts)], default=10**6)


def random_images(model: dict, size: int) -> dict:
    """Two images with all annotations that a detector may ask for, as a data
    loader would give them.

    Args:
        model (dict): The model's config; tells which form of data it takes.
        size (int): Height and width in pixels.
    """
    np.random.seed(0)
    preprocessor = model.get('data_preprocessor', {}).get('type', '')
    if preprocessor == 'TrackDataPreprocessor':
        data = demo_track_inputs(
            num_frames=2,
            key_frames_inds=[0],
            image_shapes=(3, size, size),
            num_items=[NUM_BOXES],
            with_mask=True)
        data['data_samples'] = list(data['data_samples'])
        return data
    data = demo_mm_inputs(
        NUM_IMAGES, (3, size, size),
        num_items=[NUM_BOXES] * NUM_IMAGES,
        # RTMDet's assigner takes masks for tensors where there are any
        with_mask='mask' in str(model).lower(),
        with_semantic=True)
    proposals = demo_mm_proposals([(3, size, size)] * NUM_IMAGES, 20)
    for sample, proposal in zip(data['data_samples'], proposals):
        sample.gt_instances.labels %= num_classes(model)
        sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype='f')))
        if 'roi_head' in model and 'rpn_head' not in model:
            sample.proposals = proposal
    return data


def branches(data: dict) -> dict:
    """The data of semi-supervised training: three views of the images."""
    return {
        key: {
            branch: list(values)
            for branch in ('sup', 'unsup_teacher', 'unsup_student')
        }
        for key, values in data.items()
    }
