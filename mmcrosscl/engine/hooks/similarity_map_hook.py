"""Hook that draws how similar a region is to the rest of its image, before and during training."""

import zlib
from itertools import islice

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmcrosscl.engine.unwrap import unwrap_model
from mmcrosscl.errors import InputError
from mmcrosscl.models import CrossCL
from mmcrosscl.random_states import seeded
from mmcrosscl.registry import HOOKS
from mmcrosscl.structures import ViewPairSample

# images that are searched for paired windows
SEARCHED = 32


@HOOKS.register_module()
class SimilarityMapHook(Hook):
    """Draws the similarity maps of a region at each validation of a pre-training.

    The figure of an image has one row for the weights before training and one row for the current
    weights; see :func:`~mmcrosscl.visualization.plot_similarity_maps`. The region is the paired
    window closest to the center of the query view. The figure is passed to the visualizer as
    ``similarity_maps``, so the ``vis_backends`` of the config store it: ``LocalVisBackend`` in
    ``vis_data/vis_image``, TensorBoard, W&B and others in their formats.

    Only the main process draws. The hook does nothing if the config has no validation. Checkpoints
    contain the feature maps before training. If a run resumes from a checkpoint without them, the
    first row is omitted.

    Args:
        count (int): Number of images, the first ones of the validation set that have a paired
            window. Their figures are stacked. Defaults to 1.

    Raises:
        InputError: If ``count`` is below 1. Before training, if the validation set does not return
            views or the model is not :class:`~mmcrosscl.models.CrossCL`.
    """

    def __init__(self, count: int = 1) -> None:
        if count < 1:
            raise InputError(f'count is {count}; set a number of images of at least 1')
        self.count = count
        self._items: list[dict] = []
        # checksums of the query views, and their feature maps before training
        self._before: dict[str, list] | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._before is not None:
            checkpoint['similarity_maps'] = self._before

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._before = checkpoint.get('similarity_maps')

    def before_train(self, runner: Runner) -> None:
        if runner.val_loop is None or not is_main_process():
            return
        if not isinstance(unwrap_model(runner.model), CrossCL):
            raise InputError(
                'SimilarityMapHook needs the model mmcrosscl.CrossCL, but the model is '
                f'{type(unwrap_model(runner.model)).__name__}; remove the hook from custom_hooks'
            )
        self._items = self._choose(runner)
        views = [zlib.crc32(item['inputs'][0].tobytes()) for item in self._items]
        # `load_from` also loads a checkpoint, but training then starts at iteration 0
        if runner.iter == 0:
            self._before = dict(views=views, maps=self._maps(runner))
        elif self._before is not None and self._before['views'] != views:
            runner.logger.warning(
                'The validation images differ from those of the resumed run. The similarity maps '
                'before training are therefore not drawn.'
            )
            self._before = None

    # The weights are those of the validation, also with EMAHook.
    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        if batch_idx or not self._items:
            return
        # imports matplotlib and MMDetection, which other training does not need
        from mmcrosscl.visualization import plot_similarity_maps
        from mmcrosscl.visualization.views import seen_views

        rows = {f'iteration {runner.iter:,}': self._maps(runner)}
        if self._before is not None:
            rows = {'before training': self._before['maps'], **rows}
        figures = [
            plot_similarity_maps(
                seen_views(item)[0],
                central_region(item['data_samples']),
                {name: maps[number] for name, maps in rows.items()},
            )
            for number, item in enumerate(self._items)
        ]
        runner.visualizer.add_image('similarity_maps', np.concatenate(figures), step=runner.iter)

    def _choose(self, runner: Runner) -> list[dict]:
        """Return the first images of the validation set that have a paired window."""
        loader = runner.val_dataloader
        items = []
        # The images are loaded in this process, because a data loader would start its workers and
        # change the random state.
        with seeded(runner.seed):
            for index in islice(loader.sampler, SEARCHED):
                item = loader.dataset[index]
                if not isinstance(item.get('data_samples'), ViewPairSample):
                    raise InputError(
                        'SimilarityMapHook needs a validation set of views; end the pipeline of '
                        'val_dataloader.dataset with mmcrosscl.RegionPairs and '
                        'mmcrosscl.PackViews, or remove the hook'
                    )
                if item['data_samples'].paired.any():
                    items.append(item)
                if len(items) == self.count:
                    return items
        if not items:
            runner.logger.warning(
                f'None of the first {SEARCHED} validation images has a paired window, so '
                'SimilarityMapHook draws nothing.'
            )
        return items

    @torch.no_grad()
    def _maps(self, runner: Runner) -> list[dict[str, Tensor]]:
        """Return the (C, H, W) feature maps of each query view, in host memory."""
        if not self._items:
            return []
        model = unwrap_model(runner.model)
        # the model adds its features to the samples
        items = [{**item, 'data_samples': item['data_samples'].clone()} for item in self._items]
        training = model.training
        model.eval()
        samples = model.val_step(runner.val_dataloader.collate_fn(items))
        model.train(training)
        return [
            {
                level: x.float().cpu()
                for level, x in sample.query_features.items()
                # vectors, such as 'global', are no maps
                if x.dim() == 3
            }
            for sample in samples
        ]


def central_region(sample: ViewPairSample) -> list[float]:
    """Return the paired region closest to the center of the query view, in pixels."""
    boxes = sample.query_regions[sample.paired]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = np.linalg.norm(centers - np.array(sample.img_shape) / 2, axis=1)
    return boxes[distances.argmin()].tolist()
