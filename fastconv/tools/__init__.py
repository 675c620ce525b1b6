"""The command line, its reports and pictures, and the problems that benchmarks run."""
