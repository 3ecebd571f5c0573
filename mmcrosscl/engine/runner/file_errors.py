"""Messages for files that a run cannot find, read or write."""

import os
import re

from mmcrosscl.errors import UNWRITABLE, InputError, inaccessible


def missing_file(error: FileNotFoundError) -> InputError:
    """Return the error of a file of a dataset that does not exist."""
    # an error from a worker process contains the file name only in its text
    name = error.filename or re.findall(r"'(.+?)'", str(error))[-1:] or ['a file']
    name = name[0] if isinstance(name, list) else os.fsdecode(name)
    return InputError(
        f'{name} does not exist; correct data_root, ann_file and data_prefix of the dataset in the '
        'config, or copy the data to this path'
    )


def unusable_file(error: OSError, work_dir: str) -> InputError:
    """Return the error of a file that cannot be read or, in the work dir, written."""
    where = os.fsdecode(error.filename or work_dir)
    place, results = os.path.abspath(where), os.path.abspath(work_dir)
    # a folder that contains the work dir cannot be written if the work dir cannot be created
    written = os.path.commonpath([place, results]) in (place, results)
    if not written and error.errno not in UNWRITABLE:
        return inaccessible(error)
    return InputError(
        f'cannot write {where}: {error.strerror or error}; free disk space or make the '
        'folder writable, or set another --work-dir'
    )
