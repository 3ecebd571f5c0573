"""A dataset of the images of a COCO file with the boxes and classes of their objects."""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError
from mmcrosscl.registry import DATASETS

from .unlabeled import ImageDataset


@DATASETS.register_module()
class ObjectDataset(ImageDataset):
    """A dataset of the labeled images of a COCO file, with the boxes of their objects.

    Crowds and images without boxes are omitted. Boxes are clipped to their image, and a box that
    lies outside of its image is omitted with a warning. An image that cannot be read is replaced;
    see :class:`ImageDataset`.

    Args:
        ann_file (str): COCO file, relative to ``data_root``.
        data_root (str): Root folder. Defaults to ''.
        data_prefix (str): Folder of the images, relative to ``data_root``. Defaults to ''.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`, such as ``pipeline``.

    Raises:
        InputError: If the file or the folder does not exist, the file is not in COCO format, or it
            contains no box.
    """

    def __init__(self, ann_file: str, data_root: str = '', data_prefix: str = '', **kwargs) -> None:
        super().__init__(data_root=data_root, data_prefix=data_prefix, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return a dict with ``img_path``, ``boxes``, (R, 4) float64, and ``labels`` per image.

        Boxes are x0, y0, x1, y1 in pixels of the image. Labels are the category ids of the R boxes,
        which are None if the file has none.
        """
        images = read_coco(self.ann_file)
        boxes: dict[object, list[list[float]]] = {}
        labels: dict[object, list] = {}
        outside = []
        for annotation in images['annotations']:
            if annotation.get('iscrowd'):
                continue
            image = images['by_id'].get(annotation['image_id'])
            if image is None:
                continue
            x, y, width, height = annotation['bbox']
            # files of other tools may lack the size of the image
            right, bottom = image.get('width', np.inf), image.get('height', np.inf)
            box = [max(x, 0), max(y, 0), min(x + width, right), min(y + height, bottom)]
            if box[0] < box[2] and box[1] < box[3]:
                boxes.setdefault(annotation['image_id'], []).append(box)
                labels.setdefault(annotation['image_id'], []).append(annotation.get('category_id'))
            else:
                outside.append((annotation.get('id'), image['file_name']))
        if outside:
            number, name = outside[0]
            print_log(
                f'{len(outside)} boxes of {self.ann_file} are empty or lie outside of their image, '
                f'such as annotation {number} of {name}; they are omitted.',
                'current',
                level=logging.WARNING,
            )
        if not boxes:
            raise InputError(
                f'{self.ann_file} contains no box within an image; pass a COCO file with labeled '
                'objects, or a folder of images'
            )
        return [
            dict(
                img_path=str(Path(self.img_prefix, images['by_id'][number]['file_name'])),
                boxes=np.array(found, dtype=np.float64),
                labels=labels[number],
            )
            for number, found in boxes.items()
        ]

    def filter_data(self) -> list[dict]:
        """Keep at most ``max_images`` images."""
        return [self.data_list[index] for index in self.chosen_images(len(self.data_list))]


def read_coco(path: str | Path) -> dict:
    """Read the images and annotations of a COCO file.

    Args:
        path (str | Path): The file.

    Returns:
        dict: The contents of the file. 'by_id' maps the id of each image to its entry.

    Raises:
        InputError: If the file does not exist, or is not in COCO format.
    """
    try:
        contents = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f'COCO file {path} does not exist') from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'{path} cannot be read as JSON: {error}; pass a COCO file') from error
    valid = isinstance(contents, Mapping) and all(
        isinstance(contents.get(name), list) for name in ('images', 'annotations')
    )
    valid = valid and all(
        isinstance(image, Mapping)
        and isinstance(image.get('id'), int | str)
        and isinstance(image.get('file_name'), str)
        and all(isinstance(image.get(side, 0), int | float) for side in ('width', 'height'))
        for image in contents['images']
    )
    valid = valid and all(map(_is_annotation, contents['annotations']))
    if not valid:
        raise InputError(
            f'{path} is not in COCO format; it needs `images` with id and file_name, a width and '
            'height that are numbers if they are given, and `annotations` with image_id and bbox '
            '[x, y, width, height]'
        )
    contents['by_id'] = {}
    for image in contents['images']:
        if image['id'] in contents['by_id']:
            raise InputError(f'{path} has two images with the id {image["id"]}; use unique ids')
        contents['by_id'][image['id']] = image
    return contents


def category_names(coco: Mapping) -> dict:
    """Return the names of the categories of a COCO file by id, without those that have no name."""
    categories = coco.get('categories') or ()
    return {each['id']: each['name'] for each in categories if {'id', 'name'} <= set(each)}


def select_images(coco: Mapping, ids: Collection) -> dict:
    """Return the contents of a COCO file with only some images and their annotations.

    Args:
        coco (Mapping): Contents of a COCO file. 'by_id', which :func:`read_coco` adds, is dropped.
        ids (Collection): Ids of the images to keep.
    """
    return {
        **{key: value for key, value in coco.items() if key != 'by_id'},
        'images': [image for image in coco['images'] if image['id'] in ids],
        'annotations': [a for a in coco['annotations'] if a['image_id'] in ids],
    }


def write_coco(contents: Mapping, path: str | Path) -> None:
    """Write a COCO file atomically.

    Args:
        contents (Mapping): The contents. 'by_id', which :func:`read_coco` adds, is not written.
        path (str | Path): The file.

    Raises:
        InputError: If the file cannot be written.
    """
    text = json.dumps({key: value for key, value in contents.items() if key != 'by_id'})
    atomic_write(path, lambda partial: partial.write_text(text))


def find_images(
    ann_file: str | Path, folder: str | Path | None = None, option: str = '--images'
) -> Path:
    """Return the folder of the images of a COCO file.

    If no folder is given, the first image is searched for in these folders: that of the file,
    ``images`` and a folder named as the split beside it, and the same beside its parent folder, as
    in ``annotations/instances_val2017.json`` and ``val2017/``.

    Args:
        ann_file (str | Path): COCO file.
        folder (str | Path, optional): The folder, if it is known. Defaults to None (search).
        option (str): Option that sets the folder, for the message. Defaults to '--images'.

    Raises:
        InputError: If the file has no images, or the first one is in none of the folders.
    """
    if folder is not None:
        return Path(folder)
    ann_file = Path(ann_file)
    images = read_coco(ann_file)['images']
    if not images:
        raise InputError(f'{ann_file} has no images; pass a COCO file with images')
    name = images[0]['file_name']
    # 'instances_val2017' and 'val.1@10' are annotations of the splits val2017 and val
    split = ann_file.stem.rpartition('_')[2].partition('.')[0]
    parents = (ann_file.parent, ann_file.parent.parent)
    folders = [parent / folder for parent in parents for folder in ('', split, 'images')]
    for folder in folders:
        if (folder / name).is_file():
            return folder
    raise InputError(
        f'{name}, the first image of {ann_file}, is not in {ann_file.parent} or beside it; pass '
        f'the folder of the images with {option}'
    )


def _is_annotation(entry: object) -> bool:
    if not isinstance(entry, Mapping) or not isinstance(entry.get('image_id'), int | str):
        return False
    box = entry.get('bbox')
    return isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) for x in box)
