"""A dataset of the images in a folder, without labels."""

import os

import numpy as np
from mmpretrain.datasets import CustomDataset

from mmcrosscl.errors import BrokenImageError, InputError
from mmcrosscl.progress import progress_bar
from mmcrosscl.registry import DATASETS
from mmcrosscl.structures import SeededIndex

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')


@DATASETS.register_module()
class UnlabeledDataset(CustomDataset):
    """A dataset of all images below a folder, or of the images in a list.

    Images are searched at any depth. Symbolic links are followed. Files and folders whose names
    begin with a dot are skipped. A list may only contain images below the folder.

    An image that cannot be read is replaced with another, random image. The packed sample of the
    replacement has the meta information ``skipped_images``, a list of (path, reason).
    :class:`~mmcrosscl.engine.SkippedImagesHook` counts and logs the skipped images.

    Args:
        data_root (str): Root folder. Defaults to ''.
        data_prefix (str): Folder of the images, relative to ``data_root``. Defaults to ''.
        ann_file (str): Text file with one image path per line, relative to ``data_prefix``.
            Defaults to '', which selects every image below the folder.
        extensions (tuple[str, ...]): Extensions of image files. Defaults to common image formats.
        max_images (int, optional): Maximum number of images, which are chosen at equal distances in
            the sorted list. Defaults to None (all images).
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`, such as ``pipeline``.

    Raises:
        InputError: If the folder or the list does not exist or contains no images, the list
            contains a path outside of the folder, or ``max_images`` is below 1.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str = '',
        ann_file: str = '',
        extensions: tuple[str, ...] = EXTENSIONS,
        max_images: int | None = None,
        **kwargs,
    ) -> None:
        if max_images is not None and max_images < 1:
            raise InputError(f'max_images is {max_images}; set a number of at least 1, or None')
        self.max_images = max_images
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            ann_file=ann_file,
            extensions=extensions,
            with_label=False,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Return a dict with ``img_path`` per image, in the order of the list or sorted by path."""
        folder = self.img_prefix
        if '://' not in folder and not os.path.isdir(folder):
            state = 'is a file' if os.path.exists(folder.rstrip('/')) else 'does not exist'
            raise InputError(
                f'image folder {folder} {state}; set data_root (and data_prefix) of the '
                'dataset to a folder of images'
            )
        if self.ann_file and '://' not in self.ann_file and not os.path.isfile(self.ann_file):
            raise InputError(f'image list {self.ann_file} does not exist; correct ann_file')
        data_list = super().load_data_list()
        if self.ann_file:
            # an empty line in the list becomes the path of the folder itself
            itself = folder.rstrip('/')
            data_list = [info for info in data_list if info['img_path'].rstrip('/') != itself]
            self._stay_within(folder, data_list)
        if not data_list:
            raise InputError(
                f'{self.ann_file or folder} contains no images with the extensions '
                f'{", ".join(sorted(self.extensions))}; set data_root to a folder of images'
            )
        return data_list

    def filter_data(self) -> list[dict]:
        """Keep at most ``max_images`` images."""
        if self.max_images is None or self.max_images >= len(self.data_list):
            return self.data_list
        chosen = np.linspace(0, len(self.data_list) - 1, self.max_images).round().astype(int)
        return [self.data_list[index] for index in chosen]

    def _stay_within(self, folder: str, data_list: list[dict]) -> None:
        # only the path is checked: a symbolic link may lead out, as in a search of the folder
        prefix = os.path.join(folder, '')
        for info in data_list:
            path = info['img_path']
            if not path.startswith(prefix) or '..' in path.removeprefix(prefix).split('/'):
                raise InputError(
                    f'image list {self.ann_file} contains {path}, which is not below {folder}; '
                    'list only images below this folder'
                )

    def _find_samples(self) -> list[str]:
        folder = self.img_prefix
        if '://' in folder:
            return super()._find_samples()
        # the prefix is removed as a string, because relpath takes seconds for a million paths
        prefix = os.path.join(folder, '')
        samples: list[str] = []
        seen, waiting = set(), [folder]
        with progress_bar(f'Indexing {folder}', unit='images') as bar:
            while waiting:
                parent = waiting.pop()
                if bar.due:
                    bar.update(len(samples))
                # a symbolic link may lead back to a parent folder
                identity = os.stat(parent)
                if (identity.st_dev, identity.st_ino) in seen:
                    continue
                seen.add((identity.st_dev, identity.st_ino))
                for entry in os.scandir(parent):
                    if entry.name.startswith('.'):
                        continue
                    if entry.is_dir():
                        waiting.append(entry.path)
                    # pipes are excluded, because reading a pipe would block
                    elif entry.is_file() and self.is_valid_file(entry.name):
                        samples.append(entry.path.removeprefix(prefix))
        return sorted(samples)

    def __getitem__(self, idx: int) -> dict:
        """Return the sample at ``idx``, or another, random sample if the image is broken.

        Args:
            idx (int): Index of the sample. A :class:`~mmcrosscl.structures.SeededIndex` also seeds
                all random parameters.

        Raises:
            InputError: If ``max_refetch`` + 1 images in a row are broken.
        """
        skipped = []
        if isinstance(idx, SeededIndex):
            idx.seed_generators()
        for _ in range(self.max_refetch + 1):
            try:
                sample = super().__getitem__(idx)
            except BrokenImageError as error:
                skipped.append((error.path, error.reason))
                other = self._rand_another()
                idx = idx.at(other) if isinstance(idx, SeededIndex) else other
                continue
            if skipped and 'data_samples' in sample:
                sample['data_samples'].set_metainfo(dict(skipped_images=skipped))
            return sample
        raise InputError(
            f'{len(skipped)} images in a row cannot be read, the last one {skipped[-1][0]} '
            f'({skipped[-1][1]}); check the files below {self.img_prefix}'
        )
