"""What `ci/gpu` does: health, correctness, timings and projected costs, each written down as soon as it is known."""
