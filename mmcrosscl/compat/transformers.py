"""Import of MMPretrain beside transformers 5, which its multimodal models cannot use."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

# removed in transformers 5
NEEDED = 'def find_pruneable_heads_and_indices'


@contextmanager
def without_unusable_transformers() -> Iterator[None]:
    """Import MMPretrain without its multimodal models if they need an older transformers.

    MMPretrain imports these models if it finds the metadata of transformers. Otherwise, it
    registers placeholders whose error names the package.
    """
    original = metadata.distribution

    def distribution(distribution_name: str) -> metadata.Distribution:
        if distribution_name == 'transformers' and not _is_usable():
            raise metadata.PackageNotFoundError(distribution_name)
        return original(distribution_name)

    # MMPretrain has no setting for this, and imports the function by its name
    metadata.distribution = distribution
    try:
        yield
    finally:
        metadata.distribution = original


def _is_usable() -> bool:
    spec = find_spec('transformers')
    folders = (spec and spec.submodule_search_locations) or []
    files = [Path(folder) / 'pytorch_utils.py' for folder in folders]
    return any(path.is_file() and NEEDED in path.read_text() for path in files)
