"""lm-eval task definitions of the suites in data/benchmarks."""
