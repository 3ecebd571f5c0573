"""A warning of labels that no class of the config names, and an error if no image remains."""

from collections.abc import Iterable, Sequence
from traceback import walk_tb
from typing import Any

from mmengine.fileio import load

from mmcrosscl.errors import InputError

# categories and classes that a message lists
SHOWN = 3
# method of MMEngine's BaseDataset that fails if there is no image
SERIALIZE = '_serialize_data'


def unknown_categories(dataset: Any) -> list[str]:
    """Return a warning for each COCO file with boxes that training does not use.

    MMDetection's ``CocoDataset`` drops the boxes of categories that are not among its classes, and
    these are the classes of COCO if the config does not set them.

    Args:
        dataset (Any): A dataset that is loaded. The datasets within wrappers are checked.
    """
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner != [None]:
        return [warning for each in inner for warning in unknown_categories(each)]
    # only datasets of CocoDataset's kind have it: images by category, of categories with boxes
    images: dict[int, list] = getattr(dataset, 'cat_img_map', {})
    if not (unknown := images.keys() - set(getattr(dataset, 'cat_ids', images))):
        return []
    path = dataset.ann_file
    coco, listed = _read_categories(dataset, unknown)
    labeled = sum(map(bool, images.values()))
    used = set().union(*(ids for category, ids in images.items() if category not in unknown))
    empty = set().union(*(images[category] for category in unknown)) - used
    return [
        f'{len(unknown)} of the {labeled} categories with boxes in {path} are not among the '
        f'classes of the config ({listed}), so their boxes are not used, and '
        f'{len(empty):,} of {len(coco["images"]):,} images have no other boxes; to use them, set '
        'metainfo=dict(classes=...) of the dataset and num_classes of the model'
    ]


def no_images(error: ValueError) -> InputError | None:
    """Return the error of a dataset of which no image remains, or None for another error.

    Args:
        error (ValueError): Error of MMEngine while it builds a dataset.
    """
    # MMEngine concatenates no arrays, and only the traceback has the dataset
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    places = [frame.f_locals['self'] for frame in frames if frame.f_code.co_name == SERIALIZE]
    if not places or places[-1].data_list:
        return None
    dataset = places[-1]
    path, classes = dataset.ann_file, dataset.metainfo.get('classes') or ()
    images = getattr(dataset, 'cat_img_map', {})
    labeled = {category for category, ids in images.items() if ids}
    if not labeled or labeled & set(getattr(dataset, 'cat_ids', ())):
        return InputError(
            f'no image of {path} remains with filter_cfg={dataset.filter_cfg}; correct ann_file, '
            'metainfo or filter_cfg of the dataset'
        )
    _, listed = _read_categories(dataset, labeled)
    return InputError(
        f'no image of {path} has boxes of a class of the config: its categories are {listed}, and '
        f'the classes are {_listed(classes)}; set metainfo=dict(classes=...) of the dataset and '
        'num_classes of the model'
    )


def _read_categories(dataset: Any, ids: Iterable[int]) -> tuple[dict, str]:
    """Return a COCO file, and the names of some of its categories."""
    # the dataset does not keep the names; the file is read again only for a message
    coco = load(dataset.ann_file, file_format='json', backend_args=dataset.backend_args)
    names = {each['id']: each['name'] for each in coco['categories']}
    return coco, _listed([str(names.get(each, each)) for each in sorted(ids)])


def _listed(names: Sequence[str]) -> str:
    return ', '.join([*names[:SHOWN], *['…'] * (len(names) > SHOWN)])
