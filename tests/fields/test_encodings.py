import torch

from benchmarks import authors
from dietnerf.fields.encodings import FrequencyEncoding


def test_equals_the_authors_order():
    x = torch.randn(7, 3)
    assert torch.equal(FrequencyEncoding(10)(x), authors.encode(x, 10))


def test_prefix_is_the_encoding_with_fewer_octaves():
    x = torch.randn(5, 3)
    assert torch.equal(FrequencyEncoding(10)(x)[:, :21], FrequencyEncoding(3)(x))


def test_without_octaves_it_is_the_identity():
    x = torch.randn(4, 3)
    assert torch.equal(FrequencyEncoding(0)(x), x)
    assert FrequencyEncoding(0).n_features == 3
