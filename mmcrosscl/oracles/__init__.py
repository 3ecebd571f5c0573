"""Plain implementations that tests and benchmarks compare with the package."""
