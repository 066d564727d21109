"""Benchmarks. Figures are ratios to something measured in the same run, because machines differ and are noisy."""
