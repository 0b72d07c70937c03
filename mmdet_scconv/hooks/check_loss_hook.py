"""Stops a training whose loss is no longer a number."""
from itertools import chain

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook


def image_paths(data_batch: dict) -> list[str]:
    """The image files of a batch, each once: also of the frames of videos and
    of the branches of semi-supervised training."""
    samples = data_batch.get('data_samples', ())
    if isinstance(samples, dict):
        samples = chain(*samples.values())
    frames = chain(*(getattr(sample, 'video_data_samples', [sample])
                     for sample in samples))
    paths = (getattr(frame, 'img_path', None) for frame in frames)
    return list(dict.fromkeys(str(path) for path in paths if path))


@HOOKS.register_module()
class CheckLossHook(Hook):
    """Stops at the first loss that is NaN or infinite, before it is saved.

    MMDetection's CheckInvalidLossHook checks every 50th iteration only, and
    does not name the images.
    """

    # before the checkpoint of the same iteration
    priority = 'HIGH'

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict = None,
                         outputs: dict = None) -> None:
        """
        Raises:
            FloatingPointError: Names the iteration, the losses and the
                batch's image files.
        """
        if torch.isfinite(outputs['loss']).all():
            return
        losses = ', '.join(
            f'{name}={value:.4g}' for name, value in outputs.items()
            if not torch.isfinite(torch.as_tensor(value)).all())
        images = image_paths(data_batch) or ['not told by the data']
        rates = runner.optim_wrapper.get_lr().get('lr', [])
        raise FloatingPointError(
            f'iteration {runner.iter + 1} (epoch {runner.epoch + 1}, batch '
            f'{batch_idx + 1}): {losses}. Images of the batch:\n  ' +
            '\n  '.join(images) +
            '\nThe training stops here; earlier checkpoints are kept. Usual '
            f'causes: a learning rate (now {max(rates, default=0):.3g}) too '
            'high for the batch size, see --auto-scale-lr; annotations, see '
            'tools/misc/check_dataset.py; half precision, see --amp')
