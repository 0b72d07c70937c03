"""Builds the loader of a training again, with other settings."""
from mmengine.runner import Runner


def rebuild_train_loader(runner: Runner, **settings) -> None:
    """Build the runner's training loader again, on the data set that it has.

    A loader cannot be changed: its sampler and its workers have the old seed,
    and PyTorch fixes the other settings.

    Args:
        runner (Runner): Before its training starts. A loader that the caller
            has built stays as it is.
        **settings: Replace those of ``train_dataloader``.
    """
    cfg = runner._train_dataloader
    if not isinstance(cfg, dict):
        return
    loop = runner.train_loop
    loop.dataloader = runner.build_dataloader(
        dict(cfg, dataset=loop.dataloader.dataset, **settings),
        seed=runner.seed,
        diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))
    if hasattr(loop, 'dataloader_iterator'):  # where iterations count
        loop.dataloader_iterator = type(loop.dataloader_iterator)(
            loop.dataloader)
