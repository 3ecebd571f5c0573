"""Other projects' checkpoint formats: pure functions on state dicts."""

from .reference import from_reference

__all__ = ['from_reference']
