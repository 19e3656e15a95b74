import pytest

from deitlt.figures import token_winners


def test_bars_are_the_margins_in_order_of_frequency(tmp_path, drawn, pixels):
    groups = {"head": [2], "tail": [0, 1]}
    path = token_winners(
        [50.0, None, 90.0], [80.0, None, 60.0], [5, 1, 9], ["a", "b", "c"], groups, tmp_path / "a.png", "t"
    )
    assert pixels(path).std() > 5
    axes = drawn[0].axes[0]
    cls, dist = axes.containers
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in cls] == [(pytest.approx(0), 30.0)]
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in dist] == [(pytest.approx(1), -30.0)]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["CLS wins 1", "DIST wins 1", "ties: 0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "a", "b"]
    assert axes.yaxis.get_major_formatter()(-30.0) == axes.yaxis.get_major_formatter()(30.0) == "30"


def test_a_tie_is_counted_and_marked(tmp_path, drawn):
    token_winners([50.0, 20.0], [50.0, 10.0], [2, 1], ["a", "b"], {"head": [0, 1]}, tmp_path / "a.png", "t")
    axes = drawn[0].axes[0]
    assert axes.get_legend().get_texts()[2].get_text() == "ties: 1"
    assert any(list(line.get_xdata()) == [0] for line in axes.lines)


def test_many_classes_are_outlines(tmp_path, drawn, long_tail):
    counts, names, groups = long_tail(1000)
    recalls = [float(i % 7) for i in range(1000)]
    token_winners(recalls, recalls[::-1], counts, names, groups, tmp_path / "a.png", "t")
    assert not drawn[0].axes[0].containers
    assert len(drawn[0].axes[0].patches) < 20


def test_no_class_has_an_image(tmp_path, pixels):
    path = token_winners([None], [None], [3], ["a"], {"head": [0]}, tmp_path / "a.png", "t")
    assert pixels(path).shape[2] == 3
