import pytest
import torch

from deitlt.errors import ConfigError
from deitlt.models import create_paco_teacher


def small_teacher(num_classes=3, name="cifar_resnet8", **options):
    torch.manual_seed(0)
    return create_paco_teacher(num_classes, name, **{"dim": 6, "queue_size": 8, **options})


def pictures(count=4, size=8, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def unit_rows(count, dim=6, seed=2):
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.mark.parametrize("num_classes", [3, 101])
@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet10t", "mobilenetv3_small_050"])
def test_any_cnn_and_any_number_of_classes(name, num_classes):
    network = small_teacher(num_classes, name)
    images = pictures(size=32)
    queries, logits = network.queries(images)
    keys = network.keys(images)
    assert (queries.shape, logits.shape, keys.shape) == ((4, 6), (4, num_classes), (4, 6))
    torch.testing.assert_close(queries.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(4))
    assert queries.requires_grad
    assert not keys.requires_grad


def test_inference_is_the_query_encoders_features_through_the_centres():
    network = small_teacher().eval()
    logits = network(pictures())
    assert torch.equal(logits, network.queries(pictures())[1])
    assert torch.equal(logits, network.linear(network.encoder_q.backbone(pictures())))
    with torch.no_grad():
        for parameter in network.encoder_k.parameters():
            parameter.zero_()
    assert torch.equal(network(pictures()), logits)


def test_the_projection_is_that_of_the_published_files():
    shapes = {name: tuple(value.shape) for name, value in small_teacher(dim=32).encoder_q.fc.state_dict().items()}
    assert shapes["0.weight"] == (64, 64)
    assert shapes["1.running_mean"] == (64,)
    assert shapes["3.weight"] == (32, 64)


def test_the_key_encoder_begins_as_a_copy_without_a_gradient():
    network = small_teacher()
    for query, key in zip(network.encoder_q.parameters(), network.encoder_k.parameters(), strict=True):
        assert torch.equal(query, key)
        assert query.requires_grad
        assert not key.requires_grad
    network.encoder_q.fc[0].bias.data.add_(1)
    assert not torch.equal(network.encoder_q.fc[0].bias, network.encoder_k.fc[0].bias)


def test_a_move_takes_the_key_encoder_a_little_towards_the_query_encoder():
    network = small_teacher(momentum=0.9)
    before = [p.detach().clone() for p in network.encoder_k.parameters()]
    with torch.no_grad():
        for parameter in network.encoder_q.parameters():
            parameter.add_(1.0)
    queries = [p.detach().clone() for p in network.encoder_q.parameters()]
    network.move_key_encoder()
    for old, query, new in zip(before, queries, network.encoder_k.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * query)
    assert all(torch.equal(a, b) for a, b in zip(queries, network.encoder_q.parameters(), strict=True))


@pytest.mark.parametrize("sizes", [(4, 4, 4), (3, 3, 3, 3), (8, 8), (5, 8, 1)])
def test_keys_replace_the_oldest_around_the_end(sizes):
    network, rows = small_teacher(), unit_rows(sum(sizes))
    assert (network.queue_labels == -1).all()
    labels = torch.arange(len(rows))
    start = 0
    for size in sizes:
        network.enqueue(rows[start : start + size], labels[start : start + size])
        start += size
        latest = {int(label): rows[label] for label in labels[max(0, start - 8) : start]}
        held = {int(label): row for label, row in zip(network.queue_labels, network.queue, strict=True) if label >= 0}
        assert held.keys() == latest.keys()
        assert all(torch.equal(held[label], latest[label]) for label in held)
        assert int(network.queue_pointer) == start % 8


def test_a_queue_smaller_than_a_batch_is_refused():
    with pytest.raises(
        ConfigError, match=r"queue_size=8 is smaller than the 9 keys.*type teacher\.model\.queue_size=72"
    ):
        small_teacher().enqueue(unit_rows(9), torch.zeros(9, dtype=torch.int64))


def test_an_unknown_encoder_is_named():
    with pytest.raises(ConfigError, match="resnet5O is no model; did you mean 'resnet50"):
        small_teacher(name="resnet5O")
