"""Writing of the images of a dataset to tar files."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np

from mmcrosscl.checkpoints import atomic_write
from mmcrosscl.errors import InputError
from mmcrosscl.progress import progress_bar

from .orders import RandomOrder
from .storage import is_remote, open_image
from .unlabeled import UnlabeledDataset

# file with the settings of the archives, next to them
SETTINGS = 'shards.json'


def write_shards(
    dataset: UnlabeledDataset, out: str | Path, images_per_shard: int = 10_000, seed: int = 0
) -> list[Path]:
    """Write the files of all images to tar files, in random order.

    The files are copied, not encoded again. The random order makes every tar file a random sample
    of the dataset, so that adjacent images are not related. Each tar file is written atomically. If
    the function is called again after an interruption, it skips the tar files that exist.

    Args:
        dataset (UnlabeledDataset): The images.
        out (str | Path): Folder to write to.
        images_per_shard (int): Number of images in a tar file. Defaults to 10,000.
        seed (int): Seed of the order. Defaults to 0.

    Returns:
        list[Path]: The tar files.

    Raises:
        InputError: If a setting is out of range, an image cannot be read, the folder is a URL or
            has tar files of other images or settings, or a file cannot be written.
    """
    if images_per_shard < 1 or seed < 0:
        raise InputError('the number of images must be at least 1, and the seed at least 0')
    if is_remote(str(out)):
        raise InputError(f'{out} is a URL; write to a local folder, and copy it to the storage')
    out = Path(out)
    settings = dict(
        images=len(dataset),
        images_per_shard=images_per_shard,
        seed=seed,
        digest=dataset.index.digest,
    )
    path = out / SETTINGS
    out.mkdir(parents=True, exist_ok=True)
    written = json.loads(path.read_text()) if path.exists() else None
    if written != settings and (written is not None or any(out.glob('*.tar'))):
        raise InputError(
            f'{out} has archives of other images or settings; choose another folder or remove it'
        )
    atomic_write(path, lambda path: path.write_text(json.dumps(settings)))
    order = RandomOrder(len(dataset), seed, epoch=0)
    shards = []
    with progress_bar(f'Writing {out}', len(dataset), 'images') as bar:
        for start in range(0, len(dataset), images_per_shard):
            shards.append(out / f'{start // images_per_shard:06d}.tar')
            if shards[-1].exists():
                continue
            indices = order.take(np.arange(start, min(start + images_per_shard, len(dataset))))

            def write(partial: Path, start: int = start, indices: np.ndarray = indices) -> None:
                with tarfile.open(partial, 'w') as archive:
                    for number, index in enumerate(indices.tolist(), start):
                        _add(archive, dataset, index)
                        if bar.due:
                            bar.update(number)

            atomic_write(shards[-1], write)
    return shards


def _add(archive: tarfile.TarFile, dataset: UnlabeledDataset, index: int) -> None:
    info = dataset.get_data_info(index)
    try:
        with open_image(info) as file:
            data = file.read()
    except OSError as error:
        raise InputError(
            f'image {info["img_path"]} cannot be read: {error.strerror or error}; fix or remove '
            'it, and run the command again'
        ) from error
    member = tarfile.TarInfo(info['img_path'].removeprefix(dataset.folder).lstrip('/'))
    member.size = len(data)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(data))
