"""`deitlt benchmark`: speed and memory of training, each figure beside its alternative in one run."""
