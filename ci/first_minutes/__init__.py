"""What `ci/gpu` does: health, correctness, timings and a projection of costs, each written down as soon as it is known."""
