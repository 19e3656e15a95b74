"""Sampling by class: rare classes are shown as often as large ones, or nearly so."""

import numpy as np
import numpy.typing as npt

from deitlt.data.samplers import EpochSampler
from deitlt.data.sources import ImageSource
from deitlt.errors import ConfigError


class ClassBalancedSampler(EpochSampler):
    """Draws as many images an epoch as there are, with replacement, class c with probability n_c^q / sum_j n_j^q.

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, equation 1:
    q = 0 shows all classes equally often, q = 1/2 by the square root of their counts, q = 1 as they are. Within
    its class each image is as likely as any other. The draws are dealt out to the ranks as `EpochSampler`
    deals its order.

    Args:
        data: the images, with the class of each.
        num_replicas: number of ranks.
        rank: this rank.
        shuffle: False puts the draws into ascending order.
        seed: mixed with the epoch.
        power: q, from 0 to 1.

    Raises:
        ConfigError: power is not in [0, 1].
    """

    def __init__(
        self,
        data: ImageSource,
        num_replicas: int,
        rank: int,
        shuffle: bool = True,
        seed: int = 0,
        power: float = 0.0,
    ) -> None:
        super().__init__(data, num_replicas, rank, shuffle, seed=seed)
        if not 0 <= power <= 1:
            raise ConfigError(
                f"data.sampler.power={power} must be from 0 to 1; type data.sampler.power=0 for classes shown "
                "equally often, or 0.5 for the square root of their counts."
            )
        self.probabilities = image_probabilities(data.labels, power)

    def _order(self) -> npt.NDArray[np.int64]:
        """The epoch's draws, [N] with repeats, equal on all ranks."""
        stream = np.random.default_rng((self.seed, self.epoch))
        n = len(self.probabilities)
        draws = stream.choice(n, size=n, p=self.probabilities)
        return draws if self.shuffle else np.sort(draws)


def image_probabilities(labels: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """The probability of each image, [N]: its class's n_c^q / sum_j n_j^q, shared by the class's n_c images.

    Args:
        labels: [N] class ids; a class without an image takes no part.
        power: q.
    """
    counts = np.bincount(labels).astype(np.float64)
    shares = counts[labels] ** (power - 1)
    normalised: npt.NDArray[np.float64] = shares / shares.sum()
    return normalised
