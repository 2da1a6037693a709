"""What a result says of itself: the least loss there is, its summary, and what a notebook shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import NAMES, TABLE_X, TABLE_Y, dtypes, table

import sgdm

# The least loss


@dtypes
@pytest.mark.parametrize("targets", [(), (1,), (3,)])
def test_a_reduced_fit_knows_the_least_loss(targets, dtype):
    cells = TABLE_X.astype(dtype)
    y = np.add.outer(TABLE_Y, np.arange(float(np.prod(targets)))).reshape(60, *targets).astype(dtype)
    assert sgdm.fit(cells, y).optimal_loss is None
    best = np.linalg.lstsq(TABLE_X, y.reshape(60, -1).astype(float), rcond=None)[0]
    least = ((TABLE_X @ best - y.reshape(60, -1)) ** 2).mean(axis=0).reshape(targets)
    for options in ({"method": "compress"}, {"lr": "auto", "momentum": "auto"}):
        result = sgdm.fit(cells, y, epochs=2000, **options)
        assert np.shape(result.optimal_loss) == targets
        assert np.asarray(result.optimal_loss).dtype == result.loss.dtype == dtype
        np.testing.assert_allclose(result.optimal_loss, least, rtol=20 * np.finfo(dtype).eps)
        np.testing.assert_allclose(result.loss, least, rtol=1e-5)


@pytest.mark.parametrize("columns", [[0, 0], [0, 1, 0], [0, 1, 2, 1, 0]])
def test_the_least_loss_of_dependent_columns_is_known_too(columns):
    best = np.linalg.lstsq(TABLE_X[:, columns], TABLE_Y, rcond=None)[0]
    reduced = sgdm.compress(TABLE_X[:, columns], TABLE_Y)
    assert reduced.optimal_loss == pytest.approx(((TABLE_X[:, columns] @ best - TABLE_Y) ** 2).mean(), rel=1e-12)


# The summary


def test_a_summary_holds_the_constants_the_losses_and_the_coefficients():
    result = sgdm.fit(table("pandas"), TABLE_Y, fit_intercept=True, method="compress", epochs=80)
    facts, _, rows = result.summary().partition("\n\n")
    facts = dict(re.split(r"  +", line) for line in facts.splitlines())
    assert (facts["status"], facts["epochs"], facts["lr"], facts["momentum"]) == ("completed", "80", "0.1", "0.8")
    assert float(facts["loss"]) == pytest.approx(result.loss, rel=1e-5)
    assert float(facts["optimal loss"]) == pytest.approx(result.optimal_loss, rel=1e-5)
    assert float(facts["gap"]) == pytest.approx(result.loss - result.optimal_loss, rel=1e-5)
    header, *body = rows.splitlines()
    assert re.split(r"  +", header.strip()) == ["coefficient", "gradient at epoch 79"]
    cells = [re.split(r"  +", line) for line in body]
    assert [row[0] for row in cells] == [*NAMES, "(intercept)"]
    np.testing.assert_allclose([float(row[1]) for row in cells], [*result.coef, result.intercept], rtol=1e-5)
    np.testing.assert_allclose([float(row[2]) for row in cells], result.history.grad[-1], rtol=1e-5)


def test_a_summary_goes_without_names_and_gradients():
    rows = sgdm.fit(TABLE_X, TABLE_Y, record="loss").summary().partition("\n\n")[2].splitlines()
    assert rows[0].split() == ["coefficient"]
    assert [row.split()[0] for row in rows[1:]] == ["x0", "x1", "x2"]


def test_a_summary_with_validation_says_which_epoch():
    result = sgdm.fit(TABLE_X, TABLE_Y, validation=0.5, seed=0, lr=1.0, momentum=0.9, epochs=2000, patience=3)
    assert f"best epoch  {result.best_epoch}\n" in result.summary()


def test_a_summary_of_many_features_and_targets_shows_some():
    result = sgdm.fit(np.ones((4, 100)), np.ones((4, 5)), lr=1e-3)
    lines = result.summary().splitlines()
    assert lines[-1] == "60 of the 100 parameters and 4 of the 5 targets are shown."
    assert [lines[10].split()[0], lines[-2].split()[0]] == ["x1", "x99"]
    assert len(lines[9].split()) == 1 + 2 * 4


def test_a_summary_shows_a_name_of_two_lines_on_one():
    pandas = pytest.importorskip("pandas")
    result = sgdm.fit(pandas.DataFrame({"a\nb": TABLE_X[:, 0]}), TABLE_Y)
    assert result.summary().splitlines()[-1].startswith(r"'a\nb'  ")


def test_a_summary_of_many_fits_has_a_row_for_each():
    sweep = sgdm.fit_many(TABLE_X, TABLE_Y, lr=[*np.linspace(0.01, 0.1, 70), 1e9], epochs=60)
    facts, _, rows = sweep.summary().partition("\n\n")
    assert facts.split() == ["fits", "71", "completed", "70", "diverged", "1"]
    header, first, *_, last, note = rows.splitlines()
    assert header.split() == ["fit", "status", "epochs", "loss", "lr", "momentum", "dampening"]
    assert first.split() == ["0", "completed", "60", f"{sweep.loss[0]:#.6g}", "0.01", "0.8", "0.8"]
    assert last.split()[:3] == ["70", "diverged", str(sweep.epochs[70])]
    assert note == "60 of the 71 fits are shown."


# What a notebook shows


def parsed(result):
    """The HTML as a tree, which it can be only if it is well-formed."""
    return ElementTree.fromstring(result._repr_html_().replace("&nbsp;", " "))


def lines_of(tree):
    """The points of the polylines, as arrays."""
    svg = "{http://www.w3.org/2000/svg}polyline"
    return [np.array([point.split(",") for point in line.get("points").split()], float) for line in tree.iter(svg)]


def colours_of(result):
    return [line.get("stroke") for line in parsed(result).iter("{http://www.w3.org/2000/svg}polyline")]


def texts_of(result):
    return [text.text for text in parsed(result).iter("{http://www.w3.org/2000/svg}text") if text.text]


def test_a_notebook_shows_the_coefficients_and_the_curve():
    tree = parsed(sgdm.fit(table("pandas"), TABLE_Y, fit_intercept=True, epochs=30))
    cells = [[cell.text or "" for cell in row] for row in tree.iter("tr")]
    assert cells[0] == ["", "coefficient", "gradient at epoch 29"]
    assert [row[0] for row in cells[1:]] == [*NAMES, "(intercept)"]
    (curve,) = lines_of(tree)
    assert len(curve) == 30
    assert (np.diff(curve[:, 0]) > 0).all()


def test_a_notebook_shows_the_losses_to_scale():
    losses = sgdm.fit(TABLE_X, TABLE_Y, epochs=40, lr=0.02)
    (curve,) = lines_of(parsed(losses))
    exponents = np.log10(losses.history.loss)
    heights = (curve[:, 1] - curve[-1, 1]) / (curve[0, 1] - curve[-1, 1])
    np.testing.assert_allclose(heights, (exponents - exponents[-1]) / (exponents[0] - exponents[-1]), atol=2e-3)


def test_a_curve_of_many_epochs_keeps_its_peaks():
    result = sgdm.fit(TABLE_X, TABLE_Y, epochs=30_000, lr=lambda epoch: 3.0 if epoch == 12_345 else 1e-4)
    whole = result.history.loss
    (curve,) = lines_of(parsed(result))
    assert len(curve) <= 400
    top, bottom = curve[:, 1].min(), curve[:, 1].max()
    assert curve[curve[:, 1].argmin(), 0] == pytest.approx(60 + whole.argmax() / 29_999 * 342, abs=0.2)
    assert (top, bottom) == (18, 134.2)


@pytest.mark.parametrize("options", [{"validation": 0.3, "seed": 0}, {"batch_size": 7, "seed": 0, "record": "updates"}])
def test_a_notebook_shows_validation_losses_and_updates(options):
    tree = parsed(sgdm.fit(TABLE_X, TABLE_Y, **options))
    assert len(lines_of(tree)) == (2 if "validation" in options else 1)
    svg = ElementTree.tostring(tree, encoding="unicode")
    assert (">update<" in svg) == ("batch_size" in options)


@pytest.mark.filterwarnings("ignore:.*far above the least:sgdm.ConvergenceWarning")
def test_a_notebook_shows_the_optimum_once_it_is_near():
    def dotted(epochs):
        result = sgdm.fit(TABLE_X, TABLE_Y, fit_intercept=True, method="compress", epochs=epochs, lr=0.3)
        return result._repr_html_().count('dasharray="1 3"')

    assert (dotted(2), dotted(100)) == (0, 1)


def test_a_fit_that_diverges_does_not_flatten_the_others():
    sweep = sgdm.fit_many(TABLE_X, TABLE_Y, lr=[0.1, 1e3], epochs=60)
    assert sweep.status.tolist() == ["completed", "diverged"]
    fine, wild = lines_of(parsed(sweep))
    assert np.ptp(fine[:, 1]) > 50
    assert len(wild) < 10


def test_a_result_without_positive_losses_has_no_curve():
    for result in (
        sgdm.fit(TABLE_X, TABLE_Y, record=None),
        sgdm.fit(TABLE_X, np.zeros(60)),  # a loss of 0 has no logarithm
    ):
        assert not lines_of(parsed(result))
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(TABLE_X, TABLE_Y, lr=1e300, momentum=0.0, epochs=9)
    assert len(lines_of(parsed(caught.value.result))) == 1


def test_several_targets_and_many_fits_have_a_curve_each():
    assert len(lines_of(parsed(sgdm.fit(TABLE_X, np.column_stack([TABLE_Y, -TABLE_Y, 2 * TABLE_Y]))))) == 3
    assert len(lines_of(parsed(sgdm.fit_many(TABLE_X, TABLE_Y, lr=np.geomspace(1e-3, 1e-1, 50))))) == 20


def test_several_curves_have_colours_and_names():
    sweep = sgdm.fit_many(TABLE_X, TABLE_Y, lr=[0.01, 0.1, 0.03], epochs=60)
    assert colours_of(sweep) == ["#1f83c9", "#d55e00", "#009e73"]
    assert texts_of(sweep)[-3:] == ["lr 0.01", "lr 0.03", "lr 0.1"]  # by their last losses
    fan = sgdm.fit_many(TABLE_X, TABLE_Y, lr=np.geomspace(1e-3, 1e-1, 50))
    assert len(set(colours_of(fan))) == 20
    assert [colours_of(fan)[i] for i in (0, -1)] == ["#1f83c9", "#d55e00"]
    assert texts_of(fan)[-7:] == ["20 of the 50 fits", "lr 0.001", *texts_of(fan)[-5:-1], "lr 0.1"]
    both = sgdm.fit(TABLE_X, np.column_stack([TABLE_Y, 9 * TABLE_Y]), validation=0.3, seed=0)
    assert colours_of(both) == 2 * ["#1f83c9", "#d55e00"]  # a target's validation loss has its colour
    assert texts_of(both)[-3:] == ["validation dashed", "target 1", "target 0"]
    assert "<title>target 1 validation</title>" in both._repr_html_()
    one = sgdm.fit(TABLE_X, TABLE_Y, validation=0.3, seed=0)
    assert colours_of(one) == ["#1f83c9", "#d55e00"]
    weighted = sgdm.fit_many(TABLE_X, TABLE_Y, sample_weight=np.random.default_rng(0).uniform(size=(3, 60)))
    assert set(texts_of(weighted)[-3:]) == {"fit 0", "fit 1", "fit 2"}


def test_the_chart_says_what_it_shows():
    assert "mean squared error" in texts_of(sgdm.fit(TABLE_X, TABLE_Y))
    assert "epoch" in texts_of(sgdm.fit(TABLE_X, TABLE_Y))


def test_a_fit_that_diverged_is_drawn_to_its_end():
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(TABLE_X, TABLE_Y, lr=1e3, epochs=1000)
    (curve,) = lines_of(parsed(caught.value.result))
    assert len(curve) == len(caught.value.result.history) > 10


def test_losses_are_drawn_though_the_first_fit_overflows_at_once():
    X, y = np.ones((3, 1)), np.ones(3)
    result = sgdm.fit_many(np.stack([X, X]), np.stack([y * 1e200, y]), lr=0.1, epochs=5)
    assert np.isnan(result.history.loss[0]).all()
    assert "<polyline" in result._repr_html_()


def test_the_axis_of_updates_counts_updates():
    X, y = np.random.default_rng(0).standard_normal((40, 2)), np.ones(40)
    result = sgdm.fit(X, y, lr=0.01, batch_size=10, shuffle=False, epochs=5, record="updates", record_every=4)
    html = result._repr_html_()
    assert ">update<" in html
    assert ">16<" in html  # rows 0 to 4 are updates 0, 4, ..., 16


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_a_summary_says_that_there_is_no_intercept(fit_intercept):
    """Who forgot it sees it there."""
    result = sgdm.fit(TABLE_X, TABLE_Y, fit_intercept=fit_intercept)
    for shown in (result.summary(), result._repr_html_()):
        facts = re.sub(r"<.*?>", "", shown.partition("<table>")[0].partition("\n\n")[0])
        assert bool(re.search(r"intercept\s+none", facts)) is not fit_intercept
