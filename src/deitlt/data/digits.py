"""The 1,797 handwritten digits that come with scikit-learn: real images with no file and no download."""

import numpy as np

from deitlt.data.registry import DataRequest, DatasetSpec, DataSplits, register_dataset
from deitlt.data.sources import ArrayImages, Subset
from deitlt.longtail import subsample
from deitlt.types import Normalisation

NUM_CLASSES = 10
TEST_IMAGES_PER_CLASS = 50
MAX_INTENSITY = 16  # the images count the inked pixels of 4x4 blocks
MEAN, STD = 0.3053, 0.3759  # of all 1,797 images, for pixels in [0, 1]


def read_digits(request: DataRequest) -> DataSplits:
    """Opens the digits: 8x8 pixels, 50 test images a class, 1,297 images for training.

    The test images are drawn at random, the same ones always: in the order of the file, the last digits
    come from other writers than the first.

    Args:
        request: not looked at, since there is no file.
    """
    from sklearn.datasets import load_digits  # slow to import, and no other data set needs it

    digits = load_digits()
    grey = np.rint(digits.images * (255 / MAX_INTENSITY)).astype(np.uint8)
    everything = ArrayImages(np.repeat(grey[..., None], 3, axis=-1), digits.target)
    test = np.sort(subsample(everything.labels, [TEST_IMAGES_PER_CLASS] * NUM_CLASSES, seed=0))
    train = np.setdiff1d(np.arange(len(everything)), test)
    names = tuple(str(digit) for digit in range(NUM_CLASSES))
    return DataSplits(Subset(everything, train), Subset(everything, test), names)


register_dataset(
    DatasetSpec(
        name="digits",
        read=read_digits,
        image_size=8,
        normalisation=Normalisation(mean=(MEAN, MEAN, MEAN), std=(STD, STD, STD)),
        group_cuts=(3, 7),
        description="1,797 handwritten digits of 8x8 pixels, built in: for demos and tests",
    )
)
