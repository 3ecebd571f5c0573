"""Labels in the form of COCO that MMDetection and pycocotools evaluate correctly."""

from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from pathlib import Path

from mmcrosscl.datasets import select_images
from mmcrosscl.errors import InputError


def class_names(coco: Mapping, path: str | Path) -> dict[int, str]:
    """Return the names of the categories of a COCO file by their id, sorted by id.

    Args:
        coco (Mapping): Contents of the file.
        path (str | Path): The file, for messages.

    Raises:
        InputError: If the file has no categories, an id or a name is missing, or one of them occurs
            twice.
    """
    categories = coco.get('categories')
    valid = isinstance(categories, list) and all(
        isinstance(each, Mapping)
        and isinstance(each.get('id'), int)
        and isinstance(each.get('name'), str)
        for each in categories
    )
    if not valid or not categories:
        raise InputError(
            f'{path} has no categories with an integer id and a name; pass a COCO file with both'
        )
    for key in ('id', 'name'):
        values = [each[key] for each in categories]
        if twice := [value for value in values if values.count(value) > 1]:
            raise InputError(f'{path} has two categories with the {key} {twice[0]}; join them')
    return {each['id']: each['name'] for each in sorted(categories, key=lambda each: each['id'])}


def unify_labels(
    coco: Mapping, path: str | Path, classes: Sequence[str], masks: bool = False
) -> dict:
    """Return the contents of a COCO file with the categories in a given order.

    MMDetection numbers the classes in the order of the categories of each file. pycocotools counts
    an object with the id 0 as missed, and needs the area of each object. Annotations are therefore
    numbered from 1, a missing area is that of the box, and a missing ``iscrowd`` is 0. Annotations
    of images that the file does not list are dropped.

    Args:
        coco (Mapping): Result of :func:`read_coco`.
        path (str | Path): The file, for messages.
        classes (Sequence[str]): Names of the categories.
        masks (bool): Whether each object needs a segmentation. Defaults to False.

    Raises:
        InputError: If an image has no size, an object has an unknown category or no segmentation,
            or the file has no objects.
    """
    number = {name: index for index, name in enumerate(classes, 1)}
    names = class_names(coco, path)
    for image in coco['images']:
        if not all(isinstance(image.get(side), Real) for side in ('width', 'height')):
            raise InputError(
                f'image {image["file_name"]} of {path} has no width and height; add them'
            )
    coco = select_images(coco, coco['by_id'])
    annotations: list[dict] = []
    for annotation in coco['annotations']:
        where = f'annotation {annotation.get("id")} of {path}'
        category = annotation.get('category_id')
        if not isinstance(category, Hashable) or category not in names:
            raise InputError(f'{where} has the category_id {category}, which no category has')
        if masks and not annotation.get('segmentation'):
            raise InputError(
                f'{where} has no segmentation, which the pipeline of the detector loads; add masks '
                'or use a detector without them'
            )
        *_, width, height = annotation['bbox']
        area = annotation.get('area')
        # MMDetection omits objects without an area from training
        valid = isinstance(area, int | float) and area > 0
        annotations.append(
            {
                **annotation,
                'id': len(annotations) + 1,
                'category_id': number[names[category]],
                'iscrowd': int(annotation.get('iscrowd') or 0),
                'area': area if valid else width * height,
            }
        )
    if all(annotation['iscrowd'] for annotation in annotations):
        raise InputError(f'{path} has no labeled objects; pass a file with boxes')
    categories = [dict(id=index, name=name) for name, index in number.items()]
    return {**coco, 'annotations': annotations, 'categories': categories}
