from deitlt.data.datasets import DataRequest
from deitlt.data.file_checks import find_broken
from deitlt.data.folder import read_folder
from deitlt.data.images import FileImages, Subset, drop


def test_finds_and_drops_broken_files(image_folder):
    cut = image_folder / "train/cat/1.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    (image_folder / "train/dog/2.webp").write_bytes(b"")
    source = read_folder(DataRequest(image_folder)).train
    broken = find_broken(source)
    assert broken == [str(cut), str(image_folder / "train/dog/2.webp")]
    kept = drop(source, broken)
    assert kept.labels.tolist() == [0, 0, 1]
    assert [kept[i].mode for i in range(3)] == ["RGB"] * 3
    assert find_broken(kept) == []


def test_each_file_is_named_once_and_every_copy_dropped(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    source = FileImages([tmp_path / "a.png"] * 3, [0, 1, 0])
    assert find_broken(source) == [str(tmp_path / "a.png")]
    assert len(drop(source, find_broken(source))) == 0


def test_subset_is_searched_alone(tmp_path, write_image):
    (tmp_path / "a.png").write_bytes(b"x")
    source = FileImages([tmp_path / "a.png", write_image(tmp_path / "b.png")], [0, 1])
    assert find_broken(Subset(source, [1])) == []
    assert find_broken(Subset(source, [0])) == [str(tmp_path / "a.png")]


def test_nothing_to_drop_leaves_the_source(image_folder):
    source = read_folder(DataRequest(image_folder)).train
    assert drop(source, []) is source
