"""MMEngine's endless data iterator, which before 0.10.8 starts at once and cannot skip batches.

Worker processes of an iterator that starts at once do not know what hooks change before training,
such as the position of the sampler.
"""

from collections.abc import Iterator

from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import loops
from torch.utils.data import DataLoader

# without it, MMEngine's loop requests and discards the batches before a resume
SKIPS = hasattr(loops._InfiniteDataloaderIterator, 'skip_iter')


class EndlessBatches:
    """Batches of MMEngine's endless iterator, which starts when it is first used.

    Args:
        loader (DataLoader): The data loader.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator:
        return loops._InfiniteDataloaderIterator(self.loader)


def is_endless(sampler: object) -> bool:
    """Return whether a sampler of MMEngine or MMDetection never ends."""
    kinds = [InfiniteSampler, DATA_SAMPLERS.get('mmdet.MultiSourceSampler')]
    return isinstance(sampler, tuple(kinds))


def skip_images(sampler: object, images: int) -> bool:
    """Let an infinite sampler start after some images of each process, if it can.

    Args:
        sampler (object): The sampler of the data loader.
        images (int): Number of images of each process.

    Returns:
        bool: Whether it was possible.
    """
    if isinstance(sampler, InfiniteSampler) and hasattr(sampler, 'skip'):
        sampler.skip(images)
        return True
    return False
