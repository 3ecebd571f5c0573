"""A warning of labels that no class of the config names."""

from typing import Any

from mmengine.fileio import load

# categories that a message lists
SHOWN = 3


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
    # the dataset does not keep the names; the file is read again only if there is a warning
    coco = load(path, file_format='json', backend_args=dataset.backend_args)
    names = {each['id']: each['name'] for each in coco['categories']}
    listed = [str(names.get(each, each)) for each in sorted(unknown)]
    listed[SHOWN:] = ['…'] if len(listed) > SHOWN else []
    labeled = sum(map(bool, images.values()))
    used = set().union(*(ids for category, ids in images.items() if category not in unknown))
    empty = set().union(*(images[category] for category in unknown)) - used
    return [
        f'{len(unknown)} of the {labeled} categories with boxes in {path} are not among the '
        f'classes of the config ({", ".join(listed)}), so their boxes are not used, and '
        f'{len(empty):,} of {len(coco["images"]):,} images have no other boxes; to use them, set '
        'metainfo=dict(classes=...) of the dataset and num_classes of the model'
    ]
