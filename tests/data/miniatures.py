"""Miniatures of the large data sets: generated JPEG files in the true layout, with the published lists or JSON.

Each function answers with the overrides that open what it made.
"""

import hashlib
import json

import numpy as np
from PIL import Image

from deitlt.longtail import class_counts


def counts_of(classes, largest, smallest):
    """Training images of each class by original label: a long tail whose order of labels is not that of sizes."""
    sizes = class_counts(classes, largest, smallest / largest)
    return [sizes[place] for place in np.random.RandomState(0).permutation(classes)]


def write_jpeg(path, label, number, size):
    """A picture of the class's own stripes and some noise, so that classes can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = 90 + 60 * np.sin((1 + label) * np.arange(size) / size * np.pi)
    noise = np.random.default_rng([label, number]).integers(0, 60, (size, size, 3))
    pixels = noise + stripes[None, :, None] * (1, (label % 3) / 2, (label % 2))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


def make_imagenet_lt(folder, classes=6, largest=8, smallest=2, tested=2, size=24):
    """`train/n01440764/n01440764_190.JPEG 0` and `val/n01440764/ILSVRC2012_val_00000293.JPEG 0`."""
    wnids = [f"n{1440764 + 971 * c:08d}" for c in range(classes)]
    counts = counts_of(classes, largest, smallest)
    train = [(f"train/{wnids[c]}/{wnids[c]}_{190 + 7 * i}.JPEG", c) for c in range(classes) for i in range(counts[c])]
    test = [
        (f"val/{wnids[c]}/ILSVRC2012_val_{293 + 31 * (i * classes + c):08d}.JPEG", c)
        for c in range(classes)
        for i in range(tested)
    ]
    _write(folder, {"ImageNet_LT_train.txt": train, "ImageNet_LT_test.txt": test}, size)
    return _overrides("imagenet_lt", folder, classes)


def make_places_lt(folder, classes=6, largest=8, smallest=2, tested=2, size=24):
    """`data_256/a/airfield/00000001.jpg 0` and, all test images in one folder, `val_256/Places365_val_00000001.jpg 0`.

    Two classes are called outdoor, as there.
    """
    names = ["a/airfield", "a/apartment_building/outdoor", "c/cabin/outdoor", "c/canyon", "d/diner", "f/field"]
    names += [f"s/scene{c}" for c in range(len(names), classes)]
    counts = counts_of(classes, largest, smallest)
    train = [(f"data_256/{names[c]}/{1 + i:08d}.jpg", c) for c in range(classes) for i in range(counts[c])]
    test = [(f"val_256/Places365_val_{1 + i:08d}.jpg", i % classes) for i in range(tested * classes)]
    _write(folder, {"Places_LT_train.txt": train, "Places_LT_test.txt": test}, size)
    return _overrides("places_lt", folder, classes)


def make_inat18(folder, classes=6, largest=8, smallest=2, tested=2, size=24, lists=True):
    """`train_val2018/Plantae/5/HASH.jpg 5`, listed in text files or, with lists=False, in the competition's JSON."""
    counts = counts_of(classes, largest, smallest)
    train = [(_inat_path(c, f"train{i}"), c) for c in range(classes) for i in range(counts[c])]
    test = [(_inat_path(c, f"val{i}"), c) for c in range(classes) for i in range(tested)]
    if lists:
        _write(folder, {"iNaturalist18_train.txt": train, "iNaturalist18_val.txt": test}, size)
    else:
        _write(folder, {}, size, images=train + test)
        for name, rows in (("train2018.json", train), ("val2018.json", test)):
            (folder / name).write_text(json.dumps(inat_json(rows, classes)))
    return _overrides("inat18", folder, classes)


def inat_json(rows, classes, year=2018):
    """The competition's annotations of (path, label)s."""
    return {
        "info": {"year": year, "version": "1", "description": f"the {year} competition", "contributor": "iNaturalist"},
        "images": [
            {"id": 100 + i, "file_name": path, "width": 24, "height": 24, "license": 1, "rights_holder": "x"}
            for i, (path, _) in enumerate(rows)
        ],
        # Not in the order of the images: what belongs together is told by the id.
        "annotations": [
            {"id": 100 + i, "image_id": 100 + i, "category_id": label} for i, (_, label) in reversed([*enumerate(rows)])
        ],
        "categories": [{"id": c, "name": f"Genus species{c}", "supercategory": "Plantae"} for c in range(classes)],
        "licenses": [{"id": 1, "name": "CC", "url": ""}],
    }


def _inat_path(label, name):
    return f"train_val2018/Plantae/{label}/{hashlib.md5(f'{label} {name}'.encode()).hexdigest()}.jpg"


def _write(folder, lists, size, images=()):
    for name, rows in lists.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{path} {label}\n" for path, label in rows))
    for i, (path, label) in enumerate([*images, *(row for rows in lists.values() for row in rows)]):
        write_jpeg(folder / path, label, i, size)


def _overrides(name, folder, classes):
    """The published cuts are for as many classes as were published."""
    cuts = f"data.group_cuts=[{max(1, classes // 3)},{max(2, 2 * classes // 3)}]"
    return [f"data={name}", f"data.root={folder}", cuts, "data.groups=paper", "data.num_workers=0"]
