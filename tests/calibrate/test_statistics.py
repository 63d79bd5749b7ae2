"""Statistics of activations are those of all rows at once, on any number of threads."""

import numpy as np
import pytest

from graphopt.calibrate import AbsoluteMean, Gram, Histogram, Ranges, RowSample, _gram

CALLS = [np.random.default_rng(i).standard_normal((2, 5, 700)).astype(np.float32) * 10**i for i in range(3)]
ROWS = np.concatenate([call.reshape(-1, 700) for call in CALLS])


def given(statistic, calls=CALLS):
    for call in calls:
        statistic.add(call)
    return statistic


def test_gram_is_the_sum_of_outer_products() -> None:
    gram = given(Gram(700))
    wanted = ROWS.T.astype(np.float64) @ ROWS
    assert gram.rows == 30
    assert np.abs(gram.matrix - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert np.array_equal(gram.matrix, gram.matrix.T)


def test_gram_goes_on_after_it_was_read() -> None:
    gram = Gram(4)
    gram.add(np.ones((1, 4)))
    assert gram.matrix[0, 3] == 1
    gram.add(np.ones((600, 4), np.float16))
    assert gram.matrix[3, 0] == gram.rows == 601


def test_gram_is_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [np.random.default_rng(i).standard_normal((600, 1100)).astype(np.float32) for i in range(2)]
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(_gram, "default_threads", lambda threads=threads: threads)
        found.append(given(Gram(1100), many).matrix.tobytes())
    assert found[0] == found[1] == found[2]


def test_absolute_mean_and_ranges_of_each_channel() -> None:
    assert given(AbsoluteMean(700)).mean == pytest.approx(np.abs(ROWS).mean(0), rel=1e-6)
    ranges = given(Ranges(700))
    assert np.array_equal(ranges.low, ROWS.min(0))
    assert np.array_equal(ranges.high, ROWS.max(0))
    assert np.array_equal(ranges.largest, np.abs(ROWS).max(0))


def test_an_array_without_rows_changes_nothing() -> None:
    empty = np.empty((0, 700), np.float32)
    for made in (Gram(700), AbsoluteMean(700), Ranges(700), RowSample(700, 3)):
        made.add(empty)
        assert made.rows == 0


def test_a_row_sample_draws_from_all_rows_alike() -> None:
    kept = np.zeros(60)
    for shift in range(50):  # other rows before it, so another draw each time
        sample = RowSample(1, 10)
        sample.add(np.full((shift, 1), -1))
        for row in range(60):
            sample.add(np.full((1, 1), row))
        rows = sample.sample[:, 0]
        assert len(rows) == 10
        assert (np.diff(rows[rows >= 0]) > 0).all()
        kept[rows[rows >= 0].astype(int)] += 1
    assert kept[:20].sum() == pytest.approx(kept[40:].sum(), rel=0.5)


def test_samples_of_two_values_are_of_the_same_rows() -> None:
    one, other = RowSample(700, 7), RowSample(700, 7)
    for call in CALLS:
        one.add(call)
        other.add(-call)
    assert one.rows == 30
    assert np.array_equal(one.sample, -other.sample)
    assert np.array_equal(one.sample, given(RowSample(700, 7)).sample)


def test_a_histogram_is_that_of_a_second_look() -> None:
    histogram = given(Histogram(64))
    assert histogram.limit / 2 <= np.abs(ROWS).max() < histogram.limit
    wanted, _ = np.histogram(ROWS.astype(np.float64), histogram.edges)
    assert np.array_equal(histogram.counts, wanted)


def test_a_histogram_of_zeros_is_one_bin() -> None:
    histogram = Histogram(8)
    histogram.add(np.zeros(3))
    histogram.add(np.array([0.3]))
    assert histogram.counts.tolist() == [0, 0, 0, 0, 3, 0, 1, 0]


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\] have no rows of 4"):
        Gram(4).add(np.zeros((2, 3)))
