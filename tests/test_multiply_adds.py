"""The multiply-adds that `inspect` prints are those of formulas, whichever kernel runs, or there is none."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, rnn

from model_summary.summary import format_summary, trace_layers


def count_products(network: nn.Module, view: Tensor, run=None) -> int | None:
    products = [layer.multiply_adds for layer in trace_layers(network, view, run)]
    return None if None in products else sum(products)


class Function(nn.Module):
    """A function as a module, which has no parameters of its own."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_a_vit_counts_its_attention():
    """Dosovitskiy's tiny one, from its widths: timm's table has 1.26 G, which counts also what is no product."""
    tokens, width, patches = 197, 192, 196
    block = tokens * width * (3 + 1 + 4 + 4) * width + 2 * tokens**2 * width
    expected = patches * 3 * 16 * 16 * width + 12 * block + width * 1000
    network = timm.create_model("vit_tiny_patch16_224")
    assert count_products(network, torch.rand(2, 3, 224, 224)) == expected == 1_253_683_200


def count_recurrent(gates: int, layers: int, directions: int, projection: int, steps: int) -> int:
    """Step by step: an input and a state by each gate's matrix, then the projection."""
    inputs, hidden, products = 5, 6, 0
    for layer in range(layers):
        width = inputs if layer == 0 else directions * (projection or hidden)
        for _ in range(directions * steps):
            products += gates * hidden * (width + (projection or hidden)) + hidden * projection
    return products


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("layers, directions", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize(
    "kind, gates, projection", [("LSTM", 4, 0), ("LSTM", 4, 3), ("GRU", 3, 0), ("RNN", 1, 0)]
)
def test_a_recurrent_layer_counts_each_step_once(kind, gates, projection, layers, directions, batch_first):
    options = {"proj_size": projection} if projection else {}
    network = getattr(nn, kind)(
        5, 6, layers, bidirectional=directions == 2, batch_first=batch_first, **options
    )
    view = torch.rand(2, 7, 5)
    steps = view if batch_first else view.transpose(0, 1)
    (layer,) = trace_layers(network, view, lambda: network(steps))
    assert layer.multiply_adds == count_recurrent(gates, layers, directions, projection, 7)
    assert layer.output == (7, directions * (projection or 6))


def test_a_layer_that_is_called_twice_counts_twice():
    lstm = nn.LSTM(5, 5, batch_first=True)
    network = Function(lambda x: lstm(lstm(x)[0])[0])
    network.lstm = lstm
    layers = trace_layers(network, torch.rand(2, 7, 5))
    assert [layer.multiply_adds for layer in layers] == [7 * 4 * 5 * 10] * 2
    assert [layer.parameters for layer in layers] == [4 * 5 * 10 + 2 * 4 * 5, 0]


def test_a_packed_sequence_counts_the_steps_that_it_has():
    lstm, view = nn.LSTM(5, 6, batch_first=True), torch.rand(2, 7, 5)
    packed = rnn.pack_padded_sequence(view, [7, 3], batch_first=True)
    assert count_products(lstm, view, lambda: lstm(packed)) == (7 + 3) * 4 * 6 * (5 + 6) // 2


def count_attention(tokens: int, width: int) -> int:
    """Three projections in, one out; scores and sums over all pairs of tokens."""
    return 4 * tokens * width**2 + 2 * tokens**2 * width


@pytest.mark.parametrize(
    "options", [{}, {"need_weights": False}, {"key_padding_mask": torch.zeros(2, 7).bool()}]
)
def test_multihead_attention_is_one_layer(options):
    network, view = nn.MultiheadAttention(8, 2, batch_first=True), torch.rand(2, 7, 8)
    (layer,) = trace_layers(network, view, lambda: network(view, view, view, **options))
    assert (layer.kind, layer.parameters) == ("MultiheadAttention", 4 * 8 * 8 + 4 * 8)
    assert layer.multiply_adds == count_attention(7, 8)


def test_torchs_encoder_of_transformers_counts_what_its_fast_kernel_would_hide():
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    view, padding = torch.rand(2, 7, 8), torch.tensor([[0] * 7, [0] * 5 + [1] * 2]).bool()
    expected = 2 * (count_attention(7, 8) + 2 * 7 * 8 * 16)
    assert count_products(network, view) == expected
    assert count_products(network, view, lambda: network(view, src_key_padding_mask=padding)) == expected
    assert torch.backends.mha.get_fastpath_enabled()


PRODUCTS = {  # of queries (2, 2, 7, 4): a batch of two, two heads, 7 tokens of width 4
    "attention": (lambda q: F.scaled_dot_product_attention(q, q, q), 2 * 7 * 7 * 8),
    "masked": (
        lambda q: F.scaled_dot_product_attention(q, q, q, attn_mask=torch.ones(7, 7).tril().bool()),
        2 * 7 * 7 * 8,
    ),
    "bf16": (lambda q: F.scaled_dot_product_attention(*[q.bfloat16()] * 3), 2 * 7 * 7 * 8),
    "across": (
        lambda q: F.scaled_dot_product_attention(q[:, :, :3], q, torch.rand(2, 2, 7, 9)),
        2 * 3 * 7 * (4 + 9),
    ),
    "grouped heads": (
        lambda q: F.scaled_dot_product_attention(torch.cat([q, q], 1), q, q, enable_gqa=True),
        4 * 7 * 7 * 8,
    ),
    "einsum": (lambda q: torch.einsum("bhtd,bhsd->bhts", q, q), 2 * 7 * 7 * 4),
    "baddbmm": (
        lambda q: torch.baddbmm(torch.zeros(2, 14, 14), q.reshape(2, 14, 4), q.reshape(2, 4, 14)),
        14 * 14 * 4,
    ),
    "in place": (
        lambda q: torch.zeros(14, 14).addmm_(q[0].flatten(0, 1), q[0].reshape(4, 14)),
        14 * 14 * 4 // 2,
    ),
    "vector": (lambda q: q @ torch.rand(4), 2 * 7 * 4),
    "grouped conv1d": (
        lambda q: F.conv1d(q.reshape(2, 4, 14), torch.rand(8, 2, 3), groups=2),
        12 * 8 * 2 * 3,
    ),
    "transposed": (
        lambda q: F.conv_transpose2d(q.reshape(2, 4, 7, 2), torch.rand(4, 3, 3, 3), groups=2),
        7 * 2 * 4 * 3 * 9,
    ),
    "conv3d": (lambda q: F.conv3d(q.reshape(2, 2, 1, 7, 4), torch.rand(3, 2, 1, 3, 3)), 3 * 2 * 9 * 5 * 2),
    "LSTM cell": (lambda q: nn.LSTMCell(4, 6)(q[:, 0, 0]), 4 * 6 * (4 + 6)),
    "GRU cell": (lambda q: nn.GRUCell(4, 6)(q[:, 0, 0]), 3 * 6 * (4 + 6)),
    "none": (lambda q: F.layer_norm(q.relu().sqrt(), (4,)).softmax(-1).norm(dim=-1), 0),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_outside_of_layers_are_counted_by_formula(case):
    function, expected = PRODUCTS[case]
    assert count_products(Function(function), torch.rand(2, 2, 7, 4)) == expected


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv2d(4, 8, 3, 2, 1, groups=2), (4, 9, 9)),
        (nn.Conv2d(4, 4, 3, padding="same", dilation=2, padding_mode="reflect"), (4, 9, 9)),
        (nn.Linear(6, 3), (5, 6)),
        (nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 49, 3)), (4, 9, 9)),
    ],
)
def test_the_profiler_counts_the_same(layer, shape):
    """torch's own counts two operations for a multiply-add."""
    view = torch.rand(2, *shape)
    with torch.no_grad(), torch.profiler.profile(with_flops=True) as profiler:
        layer.eval()(view)
    names = ("aten::conv2d", "aten::addmm", "aten::mm")
    flops = sum(event.flops for event in profiler.events() if event.name in names)
    assert count_products(layer, view) == flops // 2 // 2


@pytest.mark.parametrize(
    "function, reason",
    [
        (lambda q: F.bilinear(q, q, torch.rand(3, 4, 4)), "_trilinear"),
        (lambda q: torch.cdist(q, q), "_cdist_forward"),
        (lambda q: torch.fft.fft(q).real, "_fft_r2c"),
        (lambda q: torch.linalg.svd(q).S, "_linalg_svd"),
        (lambda q: torch.sparse.mm(torch.eye(4).to_sparse(), q[0, 0].T), "_sparse_addmm"),
    ],
)
def test_an_operation_whose_products_are_not_known_gets_no_figure(function, reason):
    view = torch.rand(2, 2, 7, 4)
    *_, layer = trace_layers(Function(function), view)
    assert layer.multiply_adds is None and reason in layer.unknown
    *_, total, note = format_summary([layer], view).splitlines()
    assert total.split()[-1] == "?" and note.startswith("? not known, because of") and reason in note


def test_a_compiled_layer_counts_what_it_counts_before():
    layer = nn.Linear(4, 3)
    assert count_products(nn.Sequential(torch.compile(layer)), torch.rand(2, 4)) == 12
    layer.compile()
    assert count_products(layer, torch.rand(2, 4)) == 12


def test_inference_mode_hides_nothing():
    network = Function(torch.inference_mode()(nn.Conv2d(2, 3, 1)))
    assert count_products(network, torch.rand(2, 2, 7, 4)) == 2 * 3 * 28


def test_a_layer_with_a_parametrization_keeps_its_row():
    (layer,) = trace_layers(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), torch.rand(1, 3, 8, 8))
    assert (layer.kind, layer.output, layer.multiply_adds) == ("Conv2d", (4, 6, 6), 108 * 36)
    assert layer.parameters == 108 + 4 + 4


def test_layers_that_are_never_called_have_parameters_alone():
    network = nn.Sequential(nn.Linear(4, 3))
    network.unused = nn.ModuleList([nn.Linear(4, 4)])
    network.forward = lambda x: network[0](x)
    layer, elsewhere = trace_layers(network, torch.rand(2, 4))
    assert (layer.multiply_adds, elsewhere.multiply_adds, elsewhere.parameters) == (12, 0, 20)
