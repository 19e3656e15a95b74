"""A run's life: open it, check it, train its stages, conclude it; on one device, on several, and in sweeps."""
