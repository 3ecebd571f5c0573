"""The data samples and the size of a batch."""

from collections.abc import Iterable, Mapping, Sequence

from torch.utils.data import DataLoader


def batch_size(loader: DataLoader) -> int:
    """Return the number of images in a batch of this process.

    Batches of MMDetection's ``MultiDataAspectRatioBatchSampler`` have the size of their dataset.
    The result is the mean.
    """
    size = getattr(loader.batch_sampler, 'batch_size', 1)
    return round(sum(size) / len(size)) if isinstance(size, Sequence) else size


def data_samples(batch: object) -> list:
    """Return the data samples of a batch, or an empty list if it has none.

    Args:
        batch (object): A batch of a data loader. In the batches of MMDetection's semi-supervised
            detectors, ``data_samples`` is a dict of lists, in which None stands for images of
            another branch.
    """
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    if isinstance(samples, Mapping):
        return [sample for branch in samples.values() for sample in branch if sample is not None]
    return list(samples) if isinstance(samples, Iterable) else []
