"""Adapters for other releases of torch, MMEngine and transformers, one module per difference.

An adapter tests for the feature, not for a version, and uses the feature where it exists.
"""
