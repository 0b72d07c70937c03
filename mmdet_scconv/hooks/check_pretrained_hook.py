"""Checks pretrained weights before a training."""
import logging
from collections.abc import Mapping

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import BaseLoop

from ..backbones import SwappedModule
from ..pretrained import prepare_pretrained, pretrained_cfgs, read_file
from ..pretrained.download import is_known
from ..pretrained.whole import compare


@HOOKS.register_module()
class CheckPretrainedHook(Hook):
    """Checks the pretrained checkpoints of a model's stock modules before a
    training: they must exist or be downloadable, be complete, and hold only
    data. Logs how many tensors fit, with a warning if none does.

    A :class:`SwappedModule` checks its own.
    """

    def before_run(self, runner) -> None:
        """
        Raises:
            FileNotFoundError: Says which file to put where.
            CheckpointError: If a file is damaged or could run code.
        """
        # only a training loads initial weights; its loop is built already
        if not isinstance(runner._train_loop, BaseLoop):
            return
        for module in runner.model.modules():
            if (isinstance(module, BaseModule)
                    and not isinstance(module, SwappedModule)):
                prepare_pretrained(module, local=True)
                log_what_fits(module)


def log_what_fits(module: BaseModule) -> None:
    """Log what MMEngine will load into a module.

    Modules with their own ``init_weights`` (Swin) may rename the tensors, and
    CheckedPretrained logs its own report: these are left out.
    """
    if type(module).init_weights is not BaseModule.init_weights:
        return
    for cfg in pretrained_cfgs(module):
        if (cfg['type'] not in ('Pretrained', PretrainedInit)
                or not is_known(cfg['checkpoint'])):
            continue
        content = read_file(cfg['checkpoint'])
        found = compare(
            module,
            under_prefix(content.get('state_dict', content),
                         cfg.get('prefix')), cfg['checkpoint'])
        line = f'{found.model} from {found.checkpoint}: {found.summary()}'
        if not found.fits:
            line += f'. {found.nothing_fits()}'
        print_log(line, logger='current',
                  level=logging.INFO if found.fits else logging.WARNING)


def under_prefix(state_dict: Mapping, prefix: str | None) -> Mapping:
    """The tensors whose names begin with a prefix, by the names without it."""
    if prefix is None:
        return state_dict
    prefix = prefix.rstrip('.') + '.'
    return {key[len(prefix):]: value for key, value in state_dict.items()
            if key.startswith(prefix)}
