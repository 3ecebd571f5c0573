"""The time that an iteration of a pre-training takes on this machine."""

import time

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmcrosscl.datasets import collate_views
from mmcrosscl.devices import check_device

# on a CPU, the time grows in proportion to the number of images
CPU_IMAGES = 4


def seconds_per_iteration(cfg: Config, dataset: BaseDataset) -> float:
    """Time the loading of images and a training step of a pre-training config.

    The weights are random, and nothing is written. The precision is that of the optimizer wrapper.

    Args:
        cfg (Config): Pre-training config with a :class:`~mmcrosscl.models.CrossCL`.
        dataset (BaseDataset): The images. The pipeline is replaced by that of the config.

    Returns:
        float: Seconds per iteration, of one process: the longer one of the time to load a batch in
        the workers and the time of a training step.

    Raises:
        InputError: If the machine does not support the device or the precision.
    """
    check_device(cfg.optim_wrapper)
    loader, device = cfg.train_dataloader, get_device()
    count = loader.batch_size if device != 'cpu' else min(loader.batch_size, CPU_IMAGES)
    with (
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.random.fork_rng(devices=[]),
    ):
        dataset.pipeline = Compose(loader.dataset.pipeline)
        # the first image takes longer, because modules are initialized
        dataset[0]
        begin = time.perf_counter()
        batch = collate_views([dataset[index % len(dataset)] for index in range(count)])
        loading = (time.perf_counter() - begin) / count
        model = MODELS.build(cfg.model).to(device).train()
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        for _ in range(2):
            begin = time.perf_counter()
            with optim_wrapper.optim_context(model):
                losses = model(**model.data_preprocessor(batch), mode='loss')
            loss, _ = model.parse_losses(losses)
            loss.backward()
            if device == 'cuda':
                torch.cuda.synchronize()
            step = (time.perf_counter() - begin) / count
    return loader.batch_size * max(step, loading / max(1, loader.num_workers))
