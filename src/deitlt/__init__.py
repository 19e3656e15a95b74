"""DeiT-LT: vision transformers trained from scratch on long-tailed images (CVPR 2024)."""

__version__ = "0.1.0"
