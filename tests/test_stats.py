"""The bootstrap interval is repeatable and as wide as theory says; correlations are those of pandas."""

import numpy as np
import pandas
import pytest

from workbench.stats import bootstrap_mean, pearson, spearman


def test_the_interval_is_as_wide_as_the_central_limit_says() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400).astype(np.float32)
    low, high = bootstrap_mean(values, seed=1, draws=4000)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_mean(generator.normal(size=50).astype(np.float32), seed=seed, level=0.8, draws=400)
        covered += low <= 0 <= high
    assert 0.7 <= covered / 200 <= 0.87


def test_each_column_has_an_interval_of_its_own() -> None:
    values = np.stack([np.zeros(30), np.ones(30), np.arange(30) % 2], axis=1).astype(np.float32)
    low, high = bootstrap_mean(values, seed=0)
    assert low[:2].tolist() == high[:2].tolist() == [0, 1]
    assert 0.2 < low[2] < 0.5 < high[2] < 0.8
    single = bootstrap_mean(values[:, 2], seed=0)
    assert (low[2], high[2]) == single


def test_a_seed_gives_the_same_interval_and_another_a_different_one() -> None:
    values = np.random.default_rng(0).random(20).astype(np.float32)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_one_example_has_no_width() -> None:
    assert bootstrap_mean(np.array([0.25], dtype=np.float32), seed=0) == (0.25, 0.25)


@pytest.mark.parametrize(
    "values, message", [([], "at least one example"), ([1.0, np.nan], "finite values"), ([np.inf], "finite")]
)
def test_refuses_what_has_no_interval(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(np.array(values, dtype=np.float32), seed=0)


def test_correlations_are_those_of_pandas_also_with_ties() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        first = generator.integers(0, 6, size=30).astype(np.float64)
        second = first + generator.integers(0, 6, size=30)
        table = pandas.DataFrame({"first": first, "second": second})
        for found, method in ((pearson, "pearson"), (spearman, "spearman")):
            expected = table.rank().corr() if method == "spearman" else table.corr()
            assert found(first, second) == pytest.approx(expected.loc["first", "second"], abs=1e-12)


def test_what_does_not_vary_correlates_with_nothing() -> None:
    assert np.isnan(pearson(np.ones(4), np.arange(4.0)))
    assert np.isnan(spearman(np.arange(4.0), np.zeros(4)))
