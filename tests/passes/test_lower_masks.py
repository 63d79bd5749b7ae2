"""mask_meaning: masks in several spellings, and masks that mean something else."""

from __future__ import annotations

import pytest
from graphopt_passes._mask_meaning import MaskMeaning, mask_meaning

from graphopt.ir import parse
from graphopt.pipeline import Context

_HEAD = """
<ir_version: 10, opset_import: ["" : 23]>
g (int64[batch,sequence] input_ids, int64[batch,total] attention_mask, int64[batch,sequence] position_ids,
   float[batch,2,past,8] past_key) => (MASKTYPE mask)
<int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 window = {100}, int64 minus_window = {-100},
 int64[1] a = {0}, int64[1] b = {1}, int64[2] ends = {1, 2}, int64[2] heads = {0, 1},
 float none = {0.0}, float lowest = {-3.4e38}, float slope = {0.5}>
{
  sequence1 = Shape<start = 1, end = 2>(input_ids)
  past1 = Shape<start = 2, end = 3>(past_key)
  total1 = Add(past1, sequence1)
  past0 = Squeeze(past1)
  total0 = Squeeze(total1)
  queries = Range(past0, total0, one)
  keys = Range(zero, total0, one)
  query = Unsqueeze(queries, b)
  key = Unsqueeze(keys, a)
  causal2 = LessOrEqual(key, query)
  causal = Unsqueeze(causal2, heads)
  real = Cast<to = 9>(attention_mask)
  token = Unsqueeze(real, ends)
  both = And(causal, token)
  BODY
}
"""


def meaning(body: str, kind: str = "bool[batch,1,sequence,total]") -> MaskMeaning | None:
    model = parse(_HEAD.replace("BODY", body).replace("MASKTYPE", kind))
    return mask_meaning(model.graph.outputs[0], Context(model))


_FLOAT = "float[batch,1,sequence,total]"


def test_bool() -> None:
    assert meaning("mask = Identity(both)") == MaskMeaning(causal=True, window=None, padding=True)


def test_additive() -> None:
    body = "mask = Where(both, none, lowest)"
    assert meaning(body, _FLOAT) == MaskMeaning(causal=True, window=None, padding=True)


def test_two_terms_whose_sum_may_overflow() -> None:
    body = """
    first = Where(causal, none, lowest)
    second = Where(token, none, lowest)
    mask = Add(first, second)
    """
    assert meaning(body, _FLOAT) == MaskMeaning(causal=True, window=None, padding=True)


@pytest.mark.parametrize(
    "near",
    [
        "far = Sub(query, window) near2 = Greater(key, far)",
        "edge = Add(query, minus_window) near2 = Greater(key, edge)",
    ],
)
def test_a_window_longer_than_any_small_case(near: str) -> None:
    body = f"{near}  near = Unsqueeze(near2, heads)  mask = And(both, near)"
    assert meaning(body) == MaskMeaning(causal=True, window=100, padding=True)


def test_without_padding() -> None:
    kind = "bool[1,1,sequence,total]"
    assert meaning("mask = Identity(causal)", kind) == MaskMeaning(causal=True, window=None, padding=False)


def test_padding_alone() -> None:
    assert meaning("mask = Identity(token)", "bool[batch,1,1,total]") is None  # one row for all queries


def test_padding_alone_for_every_query() -> None:
    body = "later = Not(causal)  all = Or(causal, later)  mask = And(all, token)"
    assert meaning(body) == MaskMeaning(causal=False, window=None, padding=True)


def test_a_prefix_that_all_see_is_another_meaning() -> None:
    body = """
    early2 = Less(key, two)
    early = Unsqueeze(early2, heads)
    seen = Or(causal, early)
    mask = And(seen, token)
    """
    assert meaning(body) is None


def test_two_tokens_ahead_are_another_meaning() -> None:
    body = """
    ahead = Sub(key, one)
    seen2 = LessOrEqual(ahead, query)
    seen = Unsqueeze(seen2, heads)
    mask = And(seen, token)
    """
    assert meaning(body) is None


def test_a_slope_is_another_meaning() -> None:
    body = """
    distance = Sub(query, key)
    far = Cast<to = 1>(distance)
    sloped = Mul(far, slope)
    mask2 = Neg(sloped)
    mask4 = Unsqueeze(mask2, heads)
    mask = Where(both, mask4, lowest)
    """
    assert meaning(body, _FLOAT) is None


def test_two_windows_in_one_are_another_meaning() -> None:
    """A hole: keys 3 to 100 places back are hidden, farther ones are not."""
    body = """
    distance = Sub(query, key)
    three = Add(one, one)
    near2 = LessOrEqual(distance, three)
    far2 = Greater(distance, window)
    seen2 = Or(near2, far2)
    seen = Unsqueeze(seen2, heads)
    mask = And(both, seen)
    """
    assert meaning(body) is None
