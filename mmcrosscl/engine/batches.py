"""The data samples of a batch."""

from collections.abc import Iterable, Mapping


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
