"""A dataset of the images in a folder, in archives or in a list, without labels."""

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmcrosscl.errors import BrokenImageError, InputError
from mmcrosscl.registry import DATASETS
from mmcrosscl.structures import SeededIndex

from .archives import is_archive
from .index import IndexFile
from .index_cache import image_index
from .storage import is_remote, join

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')


class ImageDataset(CustomDataset):
    """Base class of datasets that replace an image that cannot be read.

    The replacement is another, random image. Its packed sample has the meta information
    ``skipped_images``, a list of (path, reason). :class:`~mmcrosscl.engine.SkippedImagesHook`
    counts and logs the skipped images.

    Args:
        max_images (int, optional): Maximum number of images, which are chosen at equal distances.
            Defaults to None (all images).
        **kwargs: Arguments of MMPretrain's ``CustomDataset``.

    Raises:
        InputError: If ``max_images`` is below 1.
    """

    def __init__(self, max_images: int | None = None, **kwargs) -> None:
        if max_images is not None and max_images < 1:
            raise InputError(f'max_images is {max_images}; set a number of at least 1, or None')
        self.max_images = max_images
        super().__init__(with_label=False, **kwargs)

    def chosen_images(self, count: int) -> np.ndarray:
        """Return the indices of at most ``max_images`` of ``count`` images, (N,) int64."""
        if self.max_images is None or self.max_images >= count:
            return np.arange(count)
        return np.linspace(0, count - 1, self.max_images).round().astype(np.int64)

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


@DATASETS.register_module()
class UnlabeledDataset(ImageDataset):
    """A dataset of all images below a folder, of the images in archives, or of those in a list.

    Images are searched at any depth, and sorted by path. Symbolic links are followed. Files and
    folders whose names begin with a dot are skipped. If the folder has no images, the dataset has
    the images in its tar and zip files, in the order of the archives. A list may only contain
    images below the folder. The folder may be a URL that fsspec can read, such as ``s3://bucket``.

    The names are in an index file, which is kept in ``~/.cache/mmcrosscl`` or ``MMCROSSCL_CACHE``
    until the folder changes. Processes share this file, so they need no memory for the names.

    An image that cannot be read is replaced; see :class:`ImageDataset`.

    Args:
        data_root (str | Path): Root folder, or an archive. Defaults to ''.
        data_prefix (str): Folder of the images, relative to ``data_root``. Defaults to ''.
        ann_file (str | Path): Text file with one image path per line, relative to
            ``data_prefix``. Defaults to '', which selects every image below the folder.
        extensions (tuple[str, ...]): Extensions of image files. Defaults to common image formats.
        max_images (int, optional): Maximum number of images, which are chosen at equal distances in
            the sorted list. Defaults to None (all images).
        **kwargs: Arguments of :class:`mmengine.dataset.BaseDataset`, such as ``pipeline``.

    Raises:
        InputError: If the folder or the list does not exist or contains no images, the list
            contains a path outside of the folder, an archive is damaged, or ``max_images`` is
            below 1.
    """

    def __init__(
        self,
        data_root: str | Path = '',
        data_prefix: str = '',
        ann_file: str | Path = '',
        extensions: tuple[str, ...] = EXTENSIONS,
        max_images: int | None = None,
        **kwargs,
    ) -> None:
        self._fully_initialized = False
        self.ann_file = os.fspath(ann_file)
        self._index: IndexFile
        self._chosen: np.ndarray | None = None
        super().__init__(
            data_root=os.fspath(data_root),
            data_prefix=data_prefix,
            ann_file=self.ann_file,
            extensions=extensions,
            max_images=max_images,
            **kwargs,
        )

    def full_init(self, rebuild: bool = False) -> None:
        """Open the index, and write it first if it does not exist or is not current.

        Args:
            rebuild (bool): Write the index also if it is current. Defaults to False.
        """
        if self._fully_initialized:
            return
        folder = self.folder
        archive = is_archive(folder) and os.path.isfile(folder)
        if not is_remote(folder) and not os.path.isdir(folder) and not archive:
            state = 'is a file' if os.path.exists(folder) else 'does not exist'
            raise InputError(
                f'image folder {folder} {state}; set data_root (and data_prefix) of the '
                'dataset to a folder of images'
            )
        if self.ann_file and not is_remote(self.ann_file) and not os.path.isfile(self.ann_file):
            raise InputError(f'image list {self.ann_file} does not exist; correct ann_file')
        index = image_index(folder, self.extensions, self.ann_file, rebuild)
        if not len(index):
            raise InputError(
                f'{self.ann_file or folder} contains no images with the extensions '
                f'{", ".join(sorted(self.extensions))}; set data_root to a folder of images'
            )
        if ignored := index.settings['ignored_archives']:
            print_log(
                f'{folder} has images and {ignored} archives. The archives are ignored.',
                'current',
                level=logging.WARNING,
            )
        self._index = index
        if self.max_images is not None or self._indices is not None:
            self._chosen = self.chosen_images(len(index))
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def _join_prefix(self) -> None:
        # to join URLs, MMEngine needs packages that are not published, such as petrel_client
        prefix = self.data_prefix['img_path']
        if not is_remote(self.data_root or prefix):
            super()._join_prefix()
            return
        self.data_prefix['img_path'] = join(self.data_root, prefix)
        if self.ann_file and not is_remote(self.ann_file) and not os.path.isabs(self.ann_file):
            self.ann_file = join(self.data_root, self.ann_file)

    @property
    def folder(self) -> str:
        """The folder of the images, or the archive."""
        return self.img_prefix.rstrip('/') or '/'

    @property
    def index(self) -> IndexFile:
        """The index of all images below the folder."""
        self.full_init()
        return self._index

    def __len__(self) -> int:
        self.full_init()
        return len(self._index if self._chosen is None else self._chosen)

    def get_data_info(self, idx: int) -> dict:
        """Return ``img_path``, ``sample_idx``, and ``byte_range`` if the image is in an archive.

        ``byte_range`` is the path of the archive, the first byte and the number of bytes.
        """
        self.full_init()
        number = range(len(self))[idx]
        if self._chosen is not None:
            number = int(self._chosen[number])
        info = dict(
            img_path=join(self.folder, self._index.name(number)),
            sample_idx=idx if idx >= 0 else len(self) + idx,
        )
        if (found := self._index.byte_range(number)) is not None:
            archive, offset, size = found
            info['byte_range'] = (join(self.folder, archive), offset, size)
        return info

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep the images at some indices, or the first or last ones; see ``BaseDataset``."""
        chosen = np.arange(len(self)) if self._chosen is None else self._chosen
        if isinstance(indices, int):
            self._chosen = chosen[:indices] if indices >= 0 else chosen[indices:]
        else:
            self._chosen = chosen[np.asarray(indices, np.int64)]

    def get_subset(self, indices: Sequence[int] | int) -> 'UnlabeledDataset':
        """Return a dataset with the images at some indices; see ``BaseDataset``."""
        subset = copy.copy(self)
        subset.get_subset_(indices)
        return subset
