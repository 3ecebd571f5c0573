"""Adapters for older releases of torch and MMEngine, one module per difference.

An adapter tests for the feature, not for a version, and uses the feature where it exists.
"""
