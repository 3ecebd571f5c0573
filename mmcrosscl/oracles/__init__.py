"""Plain implementations of what the package computes, for tests and benchmarks to compare with."""
