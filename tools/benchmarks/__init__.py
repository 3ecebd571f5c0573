"""Benchmarks against plain implementations, one module per part."""

# first, because MMPretrain cannot be imported beside transformers 5 otherwise
import mmcrosscl.registry  # noqa: F401
