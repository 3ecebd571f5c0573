"""What tools/benchmark.py measures, beside the plain forms that it compares with."""
