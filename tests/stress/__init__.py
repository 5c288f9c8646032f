"""Tests of scale, of random interrupts and of the benchmarks."""
