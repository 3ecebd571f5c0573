"""A dataset of the images in a folder, without labels."""

import os

from mmpretrain.datasets import CustomDataset

from mmcrosscl.errors import BrokenImageError, InputError
from mmcrosscl.registry import DATASETS
from mmcrosscl.structures import SeededIndex

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')


@DATASETS.register_module()
class UnlabeledDataset(CustomDataset):
    """All images below a folder, at any depth, or those in a list.

    Links are followed; files and folders whose names begin with a dot are skipped. A list names
    images of that folder only: a name that leads out of it is an error.

    An image that cannot be read is replaced with a random other one. The packed sample of the
    replacement has the meta information ``skipped_images``, a list of (path, reason), which
    :class:`~mmcrosscl.engine.SkippedImagesHook` counts and logs.

    Args:
        data_root (str): The folder. Defaults to ''.
        data_prefix (str): The folder of the images, relative to ``data_root``. Defaults to ''.
        ann_file (str): A text file that names one image per line, relative to ``data_prefix``.
            Defaults to '': every image in the folder.
        extensions (tuple[str, ...]): Of the files that are images. Defaults to common formats.
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`, such as ``pipeline``.

    Raises:
        InputError: If the folder or list is missing or has no image, or the list names a file
            outside of the folder.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str = '',
        ann_file: str = '',
        extensions: tuple[str, ...] = EXTENSIONS,
        **kwargs,
    ) -> None:
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            ann_file=ann_file,
            extensions=extensions,
            with_label=False,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Return a dict with ``img_path`` per image, in the order of the list or of the paths."""
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
            # an empty line of a list names the folder itself
            itself = folder.rstrip('/')
            data_list = [info for info in data_list if info['img_path'].rstrip('/') != itself]
            self._stay_within(folder, data_list)
        if not data_list:
            raise InputError(
                f'{self.ann_file or folder} names no image (at any depth, of the kinds '
                f'{", ".join(sorted(self.extensions))}); point data_root at a folder of images'
            )
        return data_list

    def _stay_within(self, folder: str, data_list: list[dict]) -> None:
        # by name only: links are the user's choice, as in a search of the folder
        prefix = os.path.join(folder, '')
        for info in data_list:
            path = info['img_path']
            if not path.startswith(prefix) or '..' in path.removeprefix(prefix).split('/'):
                raise InputError(
                    f'image list {self.ann_file} names {path}, which is not below {folder}; name '
                    'only images in the folder, relative to it'
                )

    def _find_samples(self) -> list[str]:
        folder = self.img_prefix
        if '://' in folder:
            return super()._find_samples()
        # removed by length: relpath would take seconds for a million names
        prefix = os.path.join(folder, '')
        samples, seen, waiting = [], set(), [folder]
        while waiting:
            parent = waiting.pop()
            # a link may lead back up
            identity = os.stat(parent)
            if (identity.st_dev, identity.st_ino) in seen:
                continue
            seen.add((identity.st_dev, identity.st_ino))
            for entry in os.scandir(parent):
                if entry.name.startswith('.'):
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                # reading a pipe would block
                elif entry.is_file() and self.is_valid_file(entry.name):
                    samples.append(entry.path.removeprefix(prefix))
        return sorted(samples)

    def __getitem__(self, idx: int) -> dict:
        """Return the sample at ``idx``, or a random other one if its image is broken.

        Args:
            idx (int): A :class:`~mmcrosscl.structures.SeededIndex` seeds all random parameters.

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
