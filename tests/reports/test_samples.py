import pytest

from deitlt.reports.samples import Sample, on_images, samples_of, unlike

TEST, TRAIN = Sample("test", 10000), Sample("train", 256)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (TEST, "10,000 test images"),
        (Sample("val", 1), "1 validation image"),
        (Sample("train", None), "training images"),
        (Sample(None, 20), "20 images"),
        (Sample(None, None), "its images"),
    ],
)
def test_images_in_words(sample, words):
    assert str(sample) == words


def test_sharpness_counts_its_own_images():
    analysis = {"split": "test", "images": 10000, "rank": {}, "agreement": {}, "sharpness": {"all": {"images": 200}}}
    assert samples_of(analysis) == {"rank": TEST, "sharpness": ("train", 200)}
    assert samples_of({"sharpness": {"tail": {"images": 3}}}) == {}


def test_images_are_named_where_all_have_the_same():
    assert on_images([TEST, TEST]) == " on 10,000 test images"
    assert on_images([TEST, TRAIN]) == on_images([None]) == on_images([]) == on_images([Sample("train", None)]) == ""


def test_different_images_are_told():
    assert unlike({"a": [TEST, TEST], "b": [TEST], "c": []}) == ""
    assert unlike({"a": [TEST], "b": [TRAIN], "c": [TEST]}) == (
        "Not measured on the same images: b on 256 training images; the others on 10,000 test images."
    )
    assert unlike({"a": [TEST, TRAIN]}).endswith("a on 10,000 test images; a on 256 training images.")


def test_a_part_that_an_earlier_analysis_measured_keeps_its_images():
    analysis = {"split": "train", "images": 20, "rank": {}, "diversity": {}, "samples": {"rank": TEST._asdict()}}
    assert samples_of(analysis) == {"rank": TEST, "diversity": Sample("train", 20)}
