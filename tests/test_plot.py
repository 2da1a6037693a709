"""sgdm.plot: what is drawn, asserted on the artists. (`notebook` and the command's --plot: test_command_output.py.)"""

import sys
from itertools import pairwise

import numpy as np
import pytest

import sgdm

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

import sgdm.plot  # noqa: E402

STYLES = ["default", "dark_background"]


@pytest.fixture(autouse=True)
def closed():
    """Every test finds pyplot without figures, and leaves it so."""
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def descent(points):
    """The notebook's."""
    return sgdm.fit(*points, fit_intercept=True, coef0=[-1, 1])


@pytest.fixture(scope="module")
def wide():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 10))
    y = X @ np.arange(-4.0, 6) + 2 + rng.normal(size=200)
    return X, y, sgdm.fit(X, y, fit_intercept=True)


@pytest.fixture(scope="module")
def diverged(points):
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(*points, fit_intercept=True, lr=40, epochs=10**4)
    return caught.value.result


def pictures(result, X, y):
    """Every kind of picture, as functions of ax."""
    plot = sgdm.plot
    return {
        "line": lambda ax=None: plot.line(result, X, y, ax=ax),
        "loss": lambda ax=None: plot.loss(result, ax=ax),
        "norms": lambda ax=None: plot.norms(result, ax=ax),
        "paths": lambda ax=None: plot.paths(result, ax=ax),
        "contours": lambda ax=None: plot.contours(result, X, y, ax=ax),
    }


def said(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def box_of(text):
    """The box of a text in pixels, without what it points at."""
    return matplotlib.text.Text.get_window_extent(text)


def draw(ax):
    """Renders, which is where many a fault comes up."""
    ax.figure.canvas.draw()


# --- Each picture ---


def test_the_line_is_drawn_at_the_start_and_at_the_end(points, descent):
    x, y = points
    ax = sgdm.plot.line(descent, x, y, features=["hours"], target="marks")
    assert np.array_equal(ax.collections[0].get_offsets(), np.column_stack([x, y]))
    ends = np.array([x.min(), x.max()])
    for drawn, (slope, intercept) in zip(ax.lines, [(-1, 1), (descent.coef[0], descent.intercept)], strict=True):
        assert np.array_equal(drawn.get_xdata(), ends)
        np.testing.assert_allclose(drawn.get_ydata(), slope * ends + intercept, rtol=1e-14)
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert legend(ax) == ["start: y = −1.00x + 1.00", "after 50 epochs: y = 3.07x + 2.51"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("hours", "marks")


def test_several_features_are_drawn_as_predictions(wide):
    X, y, result = wide
    ax = sgdm.plot.line(result, X, y)
    before, after = (points.get_offsets() for points in ax.collections)
    assert np.array_equal(before, np.column_stack([y, 0 * y]))
    np.testing.assert_allclose(after, np.column_stack([y, result.predict(X)]), rtol=1e-13)
    assert legend(ax) == ["start", "after 50 epochs", "predicted = actual"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("actual y", "predicted y")


def test_the_line_says_that_the_best_epoch_was_restored(wide):
    X, y, _ = wide
    X, y = X[:30], y[:30]
    noise = np.random.default_rng(1).normal(size=(30, 20))
    result = sgdm.fit(np.hstack([X, noise]), y, epochs=300, validation=0.3, seed=0, patience=2)
    assert result.best_epoch < result.epochs - 1
    ax = sgdm.plot.line(result, np.hstack([X, noise]), y)
    assert f"best, epoch {result.best_epoch}" in legend(ax)
    path = sgdm.plot.paths(result).lines[0].get_ydata()
    assert path[-1] == result.checkpoint.parameters[0, 0, 0]  # the last, not the best


def test_the_losses_are_drawn_over_the_epochs(points, descent):
    ax = sgdm.plot.loss(descent, optimum=())
    (drawn,) = ax.lines
    assert np.array_equal(drawn.get_xdata(), np.arange(50))
    assert np.array_equal(drawn.get_ydata(), descent.history.loss)
    assert (ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "epoch", "mean squared error")
    assert said(ax) == []


def test_the_optimum_is_drawn_below_the_losses(points, descent):
    least = sgdm.compress(*points, fit_intercept=True).optimal_loss
    ax = sgdm.plot.loss(descent, optimum=least)
    assert set(ax.lines[1].get_ydata()) == {least}
    assert ax.lines[1].get_linestyle() == "--"
    assert said(ax) == ["optimum 0.087"]
    assert ax.get_ylim()[0] < least


@pytest.mark.parametrize("least", [0, 1e-31])
def test_an_optimum_far_below_does_not_flatten_the_descent(points, descent, least):
    ax = sgdm.plot.loss(descent, optimum=least)
    assert len(ax.lines) == 1
    assert said(ax) == [f"optimum {least:.3g}"]
    assert ax.get_ylim()[0] > 0.01
    draw(ax)


def test_validation_losses_stand_at_the_ends_of_the_epochs(wide):
    X, y, _ = wide
    result = sgdm.fit(X, y, batch_size=32, lr=0.01, validation=0.25, seed=0, epochs=10)
    ax = sgdm.plot.loss(result, optimum=())
    trained, held_out = ax.lines
    assert np.array_equal(trained.get_ydata(), result.history.loss)
    assert np.array_equal(held_out.get_ydata(), result.history.val_loss)
    assert np.array_equal(held_out.get_xdata(), np.arange(1, 11))  # taken at the end of each epoch
    assert said(ax) == ["training", f"validation,\nbest: epoch {result.best_epoch}"]
    path = sgdm.plot.paths(result)
    assert path.lines[0].get_xdata()[[0, -1]].tolist() == [0.8, 10]  # before the last of five updates
    assert "in epoch 0" in said(sgdm.plot.contours(result, X, y))


def test_updates_stand_within_their_epochs(wide):
    X, y, _ = wide
    result = sgdm.fit(X, y, batch_size=50, lr=0.01, seed=0, epochs=3, record="updates", record_every=2)
    assert sgdm.plot.loss(result, optimum=()).lines[0].get_xdata().tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    path = sgdm.plot.paths(result).lines[0]
    assert path.get_xdata().tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert path.get_ydata().tolist() == [*result.history.coef[:, 0], result.coef[0]]


def test_several_results_are_drawn_into_one_picture(points):
    ax = None
    for momentum in (0, 0.5, 0.9):
        result = sgdm.fit(*points, fit_intercept=True, momentum=momentum)
        ax = sgdm.plot.loss(result, label=f"momentum {momentum}", optimum=(), ax=ax)
    assert len(plt.get_fignums()) == 1
    assert said(ax) == ["momentum 0", "momentum 0.5", "momentum 0.9"]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 3
    assert len({line.get_linestyle() for line in ax.lines}) == 3  # in print too


def test_many_fits_have_a_curve_each(points):
    rates = [0.001, 0.01, 0.1, 1, 1e6]
    sweep = sgdm.fit_many(*points, lr=rates, fit_intercept=True)
    ax = sgdm.plot.loss(sweep, optimum=())
    for line, losses in zip(ax.lines[:4], sweep.history.loss, strict=False):
        assert np.array_equal(line.get_ydata(), losses)
    assert said(ax) == ["lr 0.001", "lr 0.01", "lr 0.1", "lr 1", "lr 1e+06"]
    assert ax.get_ylim()[1] < 1e4  # the one that diverged leaves the view
    assert said(sgdm.plot.loss(sweep, label=list("abcde"), optimum=())) == list("abcde")


def test_many_fits_are_named_by_what_varies(points):
    def names(**constants):
        return said(sgdm.plot.loss(sgdm.fit_many(*points, **constants), optimum=()))

    assert names(lr=[0.1, 0.2]) == ["lr 0.1", "lr 0.2"]
    assert names(momentum=[0, 0.5]) == ["momentum 0", "momentum 0.5"]
    assert names(momentum=[0, 0.5], dampening=0) == ["momentum 0", "momentum 0.5"]
    assert names(dampening=[0, 0.5]) == ["dampening 0", "dampening 0.5"]
    assert names(lr=[0.1, 0.2, 0.1], momentum=[0.5, 0.5, 0.9])[0] == "lr 0.1,\nmomentum 0.5"
    assert names(lr=[0.1, 0.10001]) == ["lr 0.1", "lr 0.10001"]
    assert names(lr=[0.1, 0.1]) == names(lr=[0.1, 0.2, 0.1], weight_decay=[1, 0, 2])[:2] == ["fit 0", "fit 1"]


def test_some_of_very_many_fits_have_names(points):
    rates = np.geomspace(0.001, 0.1, 30)
    sweep = sgdm.fit_many(*points, lr=rates)
    ax = sgdm.plot.loss(sweep, optimum=())
    assert len(ax.lines) == 30
    assert said(ax) == [f"lr {rates[i]:.3g}" for i in (0, 6, 12, 17, 23, 29)]
    colours = [matplotlib.colors.to_hex(line.get_color()) for line in ax.lines]
    assert len(set(colours)) == 30  # from that of the first to that of the last
    assert min(contrast(colour, ax.get_facecolor()) for colour in colours) >= 3
    assert said(sgdm.plot.norms(sweep)) == said(ax)
    assert len(said(sgdm.plot.loss(sweep, label=[f"run {i}" for i in range(30)], optimum=()))) == 6


def test_norms_of_several_fits_tell_fits_by_colour_and_gradient_and_step_by_width(points):
    sweep = sgdm.fit_many(*points, lr=[0.01, 0.1, 0.2])
    ax = sgdm.plot.norms(sweep)
    assert said(ax) == ["lr 0.01", "lr 0.1", "lr 0.2"]
    assert ax.get_ylabel() == "norm of gradient (thick) and step (thin)"
    for gradient, step in zip(ax.lines[:3], ax.lines[3:], strict=True):
        assert (gradient.get_color(), gradient.get_linestyle()) == (step.get_color(), step.get_linestyle())
        assert gradient.get_linewidth() > 2 * step.get_linewidth()
    assert len({line.get_linestyle() for line in ax.lines[:3]}) == 3


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(6.4, 4.8), (3.8, 2.9)])
def test_names_at_the_ends_are_narrow_and_in_the_colours_of_their_curves(size, style, points, wide):
    X, y, _ = wide
    results = [
        sgdm.fit_many(*points, lr=[0.1, 0.1, 0.5], momentum=[0.5, 0.9, 0.5]),
        sgdm.fit(X, y, batch_size=32, lr=0.01, validation=0.25, seed=0, epochs=10),
    ]
    with plt.style.context(style):
        for result in results:
            ax = sgdm.plot.loss(result, optimum=(), ax=plt.subplots(figsize=size, layout="constrained")[1])
            draw(ax)
            ends = {line.get_ydata()[-1]: matplotlib.colors.to_rgb(line.get_color()) for line in ax.lines}
            for text in ax.texts:
                assert box_of(text).width < ax.figure.bbox.width / 4
                own = np.array(ends[text.xy[1]])
                apart = {tuple(other): np.abs(np.array(text.get_color()) - other).sum() for other in ends.values()}
                assert apart[tuple(own)] == min(apart.values())
                assert contrast(text.get_color(), ax.get_facecolor()) >= 4.5


def test_several_targets_have_a_curve_each(points):
    x, y = points
    result = sgdm.fit(x, np.column_stack([y, y**2]), fit_intercept=True)
    ax = sgdm.plot.loss(result, optimum=[0.1, 0.2])
    assert np.array_equal([line.get_ydata() for line in ax.lines[:2]], result.history.loss.T)
    assert said(ax) == ["target 0", "target 1", "optimum 0.1", "optimum 0.2"]
    assert said(sgdm.plot.norms(result, label=["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize("fits", [3, 4, 9])
def test_many_optima_are_drawn_only_where_they_are_asked_for(points, fits):
    X, y = points
    result = sgdm.fit_many(X, y.ravel() * np.arange(1, fits + 1)[:, None], method="compress", fit_intercept=True)
    least = [text for text in said(sgdm.plot.loss(result)) if text.startswith("optimum")]
    assert len(least) == (3 if fits == 3 else 0)
    ax = sgdm.plot.loss(result, optimum=result.optimal_loss)
    assert len([text for text in said(ax) if text.startswith("optimum")]) == fits


def test_the_norms_of_gradient_and_step_are_drawn(descent):
    ax = sgdm.plot.norms(descent)
    for line, vectors in zip(ax.lines, (descent.history.grad, descent.history.step), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.sqrt((vectors**2).sum(axis=1)), rtol=1e-14)
    assert (ax.get_yscale(), said(ax)) == ("log", ["gradient", "step"])


def test_the_paths_of_all_parameters_are_drawn(wide):
    *_, result = wide
    ax = sgdm.plot.paths(result, features=list("abcdefghij"))
    whole = np.vstack([result.history.coef, np.append(result.coef, result.intercept)])
    assert np.array_equal([line.get_ydata() for line in ax.lines], whole.T)
    assert np.array_equal(ax.lines[0].get_xdata(), np.arange(51))
    assert said(ax) == [*"abcdefghij", "intercept"]
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 11


def test_names_lie_apart_and_at_their_curves(wide):
    X = wide[0]
    ax = sgdm.plot.paths(sgdm.fit(X, np.ones(200), fit_intercept=True))  # ten of them end near 0
    draw(ax)
    boxes = sorted(map(box_of, ax.texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    inside = ax.figure.bbox
    assert all(inside.x1 >= box.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)
    ends = sorted((line.get_ydata()[-1], line.get_xdata()[-1]) for line in ax.lines)
    assert sorted(text.xy[::-1] for text in ax.texts) == ends


def test_of_many_paths_the_largest_have_names():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 40))
    result = sgdm.fit(X, X @ np.arange(40.0))
    ax = sgdm.plot.paths(result)
    assert len(ax.lines) == 40
    assert set(said(ax)) == {f"x{i}" for i in np.argsort(-np.abs(result.coef))[:12]}
    _, (top, _) = plt.subplots(2, figsize=(4, 1.6))
    assert 1 <= len(said(sgdm.plot.paths(result, ax=top))) < 5  # as many as fit


def test_contours_show_the_path_and_the_minimum(points, descent):
    x, y = points
    ax = sgdm.plot.contours(descent, x, y)
    path, minimum = ax.lines
    want = np.vstack([descent.history.coef, [descent.coef[0], descent.intercept]])
    assert np.array_equal(path.get_xydata(), want)
    Z = np.column_stack([x, np.ones(100)])
    least = np.linalg.lstsq(Z, y, rcond=None)[0]
    np.testing.assert_allclose(minimum.get_xydata()[0], least, rtol=1e-12)
    (rings,) = ax.collections
    for level, ring in zip(rings.levels, rings.get_paths(), strict=True):
        if len(ring.vertices):
            losses = ((Z @ ring.vertices.T - y[:, np.newaxis]) ** 2).mean(axis=0)
            np.testing.assert_allclose(losses, level, rtol=0.02)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_aspect()) == ("coefficient of x", "intercept", 1)
    assert said(ax)[:2] == ["minimum", "start"]


def test_contours_of_two_of_many_parameters_have_the_least_loss_of_the_others(wide):
    X, y, result = wide
    ax = sgdm.plot.contours(result, sgdm.compress(X, y, fit_intercept=True), params=(-1, 3))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("intercept", "coefficient of x3")
    Z = np.column_stack([X, np.ones(200)])
    np.testing.assert_allclose(ax.lines[1].get_xydata()[0], np.linalg.lstsq(Z, y, rcond=None)[0][[10, 3]], rtol=1e-10)
    others = np.delete(Z, [10, 3], axis=1)
    level, ring = next((a, b) for a, b in zip(ax.collections[0].levels, ax.collections[0].get_paths(), strict=True))
    a, b = ring.vertices[5]
    rest = y - a * Z[:, 10] - b * Z[:, 3]
    best = others @ np.linalg.lstsq(others, rest, rcond=None)[0]
    np.testing.assert_allclose(((rest - best) ** 2).mean(), level, rtol=0.02)


def test_contours_of_a_valley_show_the_minimum_of_least_norm(points):
    x, y = points
    twins = np.hstack([x, x])
    ax = sgdm.plot.contours(sgdm.fit(twins, y), twins, y)
    np.testing.assert_allclose(*ax.lines[1].get_xydata()[0], rtol=1e-12)  # the minimum of least norm
    draw(ax)


@pytest.mark.parametrize("size", [(6.4, 4.8), (9, 3.5), (3.8, 2.9), (4, 6)])
def test_contours_fill_the_panel_and_no_text_covers_another_or_the_path(size, points):
    x, y = points
    best = np.linalg.lstsq(np.column_stack([x, np.ones(100)]), y, rcond=None)[0]
    for start in ([-1, 1], best + 0.01, best - [0.02, -0.02], best - 1, best):
        result = sgdm.fit(x, y, fit_intercept=True, coef0=start)
        figure = plt.figure(figsize=size, layout="constrained")
        ax = sgdm.plot.contours(result, x, y, ax=figure.subplots())
        draw(ax)
        box = ax.get_window_extent()
        assert box.width > 0.75 * figure.bbox.width
        assert box.height > 0.75 * figure.bbox.height
        boxes = [box_of(text) for text in ax.texts]
        assert {"start", "minimum"} <= {*said(ax)}
        assert all(text.get_rotation() == 0 for text in ax.texts)
        assert all(box.x0 <= inner.x0 and inner.x1 <= box.x1 for inner in boxes)
        assert all(box.y0 <= inner.y0 and inner.y1 <= box.y1 for inner in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        if np.ptp(result.history.coef, axis=0).min() > 0.01:
            path = ax.transData.transform(ax.lines[0].get_xydata())
            inside = [inner.count_contains(path) for inner in boxes]
            assert inside == [0] * len(boxes)


def test_contours_in_shared_axes_keep_their_aspect(points, descent):
    _, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(9, 3.5))
    for ax in axes:
        sgdm.plot.contours(descent, *points, ax=ax)
    draw(axes[0])
    assert [ax.get_aspect() for ax in axes] == [1, 1]
    sgdm.plot.contours(descent, *points, ax=plt.figure().subfigures(1, 2)[0].subplots())


@pytest.mark.parametrize("lr", [22, 40, 1e6, 1e200])
def test_a_diverged_path_leaves_the_contours_once(lr, points):
    with pytest.raises(sgdm.DivergenceError) as caught:
        sgdm.fit(*points, fit_intercept=True, lr=lr, epochs=10**4)
    result = caught.value.result
    ax = sgdm.plot.contours(result, *points)
    draw(ax)
    path = ax.lines[0].get_xydata()
    x, y = np.repeat(path, 2, axis=0)[1:-1].reshape(-1, 2, 2).transpose(2, 0, 1)  # both ends of the segments
    share = np.linspace(0, 1, 500)[:, np.newaxis, np.newaxis]
    dense = [(values[:, 0] * (1 - share[..., 0]) + values[:, 1] * share[..., 0]).T.ravel() for values in (x, y)]
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    inside = (left <= dense[0]) & (dense[0] <= right) & (low <= dense[1]) & (dense[1] <= high)
    assert inside[0]
    assert np.count_nonzero(np.diff(inside)) <= 1
    assert np.array_equal(path[0], result.history.coef[0])


# --- The animation ---


def test_the_animation_is_saved_as_a_gif(points, descent, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    before = plt.get_fignums()
    animation = sgdm.plot.animate(descent, *points, frames=6)
    assert plt.get_fignums() == before
    animation.save(tmp_path / "descent.gif", writer="pillow", dpi=40)
    with Image.open(tmp_path / "descent.gif") as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        pixels = []
        for frame in range(6):
            gif.seek(frame)
            pixels.append(np.asarray(gif.convert("L"), int))
        assert all(np.abs(a - b).max() > 50 for a, b in pairwise(pixels))
        assert gif.info["duration"] > 1000  # the end stays


def test_the_frames_go_from_the_start_to_the_end(points, descent, wide):
    axes = plt.figure().subplots()
    animation = sgdm.plot.animate(descent, *points, frames=3, ax=axes)
    x = points[0]
    ends = np.array([x.min(), x.max()])
    titles = []
    for row in list(animation.new_frame_seq())[:3]:
        animation._draw_frame(row)
        titles.append(axes.get_title("left"))
    assert titles == ["epoch 0: y = −1.00x + 1.00", titles[1], "after 50 epochs: y = 3.07x + 2.51"]
    assert titles[1].startswith("epoch 25: ")
    np.testing.assert_allclose(axes.lines[1].get_ydata(), descent.coef[0] * ends + descent.intercept, rtol=1e-14)
    animation._draw_was_started = True  # spares us a warning that it was never drawn
    X, y, result = wide
    animation = sgdm.plot.animate(result, X, y)
    assert len(list(animation.new_frame_seq())) == 51 + 10
    axes = animation._fig.axes[0]
    low, high = axes.get_ylim()
    for row in (0, 7, 50):
        animation._draw_frame(row)
        drawn = axes.collections[1].get_offsets()[:, 1]
        assert low < drawn.min() <= drawn.max() < high
    np.testing.assert_allclose(drawn, result.predict(X), rtol=1e-12)
    animation._draw_was_started = True


def test_the_animation_moves_in_a_notebook(points, descent):
    """The setting for them is "none" by default, but the value of a cell should move."""
    html = sgdm.plot.animate(descent, *points, frames=2, interval=1000)._repr_html_()
    assert "<script" in html
    assert html.count("data:image/png;base64") == 3
    with plt.rc_context({"animation.html": "html5"}):
        animation = sgdm.plot.animate(descent, *points)
        assert "_repr_html_" not in vars(animation)
        animation._draw_was_started = True


# --- All of them ---


@pytest.mark.parametrize("size", [(6.4, 4.8), (3.8, 2.9)])
@pytest.mark.parametrize("case", ["falling", "rising", "filled", "wide", "diverged"])
def test_the_legend_covers_no_point(size, case, points, wide, diverged):
    x, y = points
    result = None
    if case == "falling":
        y = -y
    elif case == "filled":
        x, y = np.random.default_rng(0).uniform(size=(2, 3000))
        x = x.reshape(-1, 1)
    elif case == "wide":
        x, y, result = wide
    elif case == "diverged":
        result = diverged
    result = sgdm.fit(x, y, fit_intercept=True) if result is None else result
    ax = sgdm.plot.line(result, x, y, ax=plt.subplots(figsize=size, layout="constrained")[1])
    draw(ax)
    box = ax.get_legend().get_window_extent()
    for drawn in ax.collections:
        pixels = ax.transData.transform(drawn.get_offsets())
        assert box.count_contains(pixels) == 0
        assert ax.get_window_extent().padded(1).count_contains(pixels) == len(pixels)


@pytest.mark.parametrize("name", ["line", "loss", "norms", "paths", "contours"])
def test_a_picture_is_drawn_into_the_axes_given(points, descent, name):
    draw_into = pictures(descent, *points)[name]
    own = matplotlib.figure.Figure().subplots()
    assert draw_into(own) is own
    assert own.has_data()
    assert plt.get_fignums() == []
    ax = draw_into()  # shown by a notebook, or plt.show()
    assert [plt.figure(number) for number in plt.get_fignums()] == [ax.figure]
    with pytest.raises(TypeError, match="ax must be one matplotlib Axes, got ndarray"):
        draw_into(plt.subplots(2)[1])


def test_axes_keep_scales_of_their_own(points, descent):
    drawn = pictures(descent, np.abs(points[0]), points[1])
    for name in ("line", "loss", "norms", "paths"):
        ax = plt.figure().subplots()
        ax.set(xscale="log", xlim=(0.1, 100))
        assert drawn[name](ax).get_xscale() == "log", name
        draw(ax)


def test_figure_of_the_notebook_is_not_pyplots(points, descent):
    figure = sgdm.plot.notebook(descent, *points)
    assert plt.get_fignums() == []
    assert len(figure.axes) == 3


def luminance(colour, behind=0):
    *channels, alpha = matplotlib.colors.to_rgba(colour)
    channels = alpha * np.array(channels) + (1 - alpha) * behind
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(colour, face):
    over = luminance(colour, np.array(matplotlib.colors.to_rgb(face)))
    high, low = sorted([over, luminance(face)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("style", STYLES)
def test_lines_and_text_are_legible(style, points, descent, wide):
    """Lines at 3:1 and text at 4.5:1, as the WCAG ask, in what the pictures choose."""
    with plt.style.context(style):
        drawn = [picture() for picture in pictures(descent, *points).values()]
        drawn += [picture() for picture in pictures(wide[2], *wide[:2]).values()]
        for ax in drawn:
            draw(ax)
    for ax in drawn:  # also after the style has been left
        for line in ax.lines:
            assert contrast(line.get_color(), ax.get_facecolor()) >= 3
        for points_ in ax.collections:
            for colour in points_.get_facecolor():
                assert contrast(colour, ax.get_facecolor()) >= 3
        for text in ax.texts:
            if text.get_label() == "end" or text.get_text() in ("start", "minimum"):
                assert contrast(text.get_color(), ax.get_facecolor()) >= 4.5


@pytest.mark.parametrize("style", [STYLES[0], *(pytest.param(style, marks=pytest.mark.slow) for style in STYLES[1:])])
@pytest.mark.parametrize(
    "case",
    [
        *("one epoch", "no intercept", "float32", "exact", "diverged", "long"),
        pytest.param("many points", marks=pytest.mark.slow),
    ],
)
def test_odd_cases_can_be_drawn(style, case, points, diverged):
    x, y = points
    result, options = None, {}
    if case == "one epoch":
        result = sgdm.fit(x, y, fit_intercept=True, epochs=1)
    elif case == "no intercept":
        result = sgdm.fit(x, y)
    elif case == "float32":
        x, y = x.astype(np.float32), y.astype(np.float32)
        result = sgdm.fit(x, y, fit_intercept=True)
    elif case == "exact":
        x, y = np.array([[1.0], [-1.0]]), np.array([2.0, -2.0])
        result = sgdm.fit(x, y, lr=0.5, momentum=0, fit_intercept=True, epochs=5)
        assert result.history.loss[-1] == 0
    elif case == "many points":
        x = np.random.default_rng(0).normal(size=(100_000, 2))
        y = x @ [1.0, 2.0]
        result = sgdm.fit(x, y)
    elif case == "long":
        result, options = (
            sgdm.fit(x, y, fit_intercept=True),
            {"features": ["a very long name in $ " * 9], "target": "_$"},
        )
    result = diverged if result is None else result
    with plt.style.context(style):
        drawn = [sgdm.plot.line(result, x, y, **options), sgdm.plot.loss(result), sgdm.plot.norms(result)]
        options.pop("target", None)
        drawn.append(sgdm.plot.paths(result, **options))
        if len(result.velocity) > 1:
            drawn.append(sgdm.plot.contours(result, x, y, **options))
        for ax in drawn:
            draw(ax)
            inside = ax.figure.bbox.padded(1)
            box = ax.get_tightbbox()
            assert inside.x0 <= box.x0 < box.x1 <= inside.x1
            assert ax.get_window_extent().width > 200
    if case == "diverged":
        assert drawn[0].get_ylim()[1] < 10
        assert max(map(abs, drawn[-1].get_ylim())) < 1000


def test_the_diabetes_data_can_be_drawn():
    """As scikit-learn has it: 10 features of tiny scale."""
    data = pytest.importorskip("sklearn.datasets").load_diabetes()
    result = sgdm.fit(data.data, data.target, fit_intercept=True, lr="auto", momentum="auto", epochs=100)
    named = sgdm.plot.paths(result, features=data.feature_names)
    assert set(said(named)) == {*data.feature_names, "intercept"}
    for picture in pictures(result, data.data, data.target).values():
        draw(picture())


# --- What can't be drawn ---


def test_results_that_cannot_be_drawn_are_refused(points, descent, wide):
    x, y = points
    plot = sgdm.plot
    lean, none = sgdm.fit(x, y, record="loss"), sgdm.fit(x, y, record=None)
    for picture in (plot.norms, plot.paths):
        with pytest.raises(
            ValueError, match=r"expected a result with a history of .*record='loss'; fit with record='all'"
        ):
            picture(lean)
    with pytest.raises(ValueError, match="history of coef, got one with record='loss'"):
        plot.line(lean, x, y)
    with pytest.raises(ValueError, match="history of loss, got one with record=None; fit with record='loss' or 'all'"):
        plot.loss(none)
    assert plot.loss(lean).lines
    both = sgdm.fit(x, np.column_stack([y, y]))
    sweep = sgdm.fit_many(x, y, lr=[0.1, 0.2])
    for result, message in (
        (both, r"one target, got 2; fit one, y\[:, i\]"),
        (sweep, r"got 2 of fit_many; .*result\[i\]"),
    ):
        for picture in (plot.line, plot.contours, plot.animate):
            with pytest.raises(ValueError, match=message):
                picture(result, x, y)
        with pytest.raises(ValueError, match=message):
            plot.paths(result)
    assert plot.paths(sweep[1]).lines
    with pytest.raises(ValueError, match="label must name 2 curves, got 'a'"):
        plot.loss(both, label="a")
    with pytest.raises(ValueError, match=r"y must be one target, of shape \(100,\), got shape \(100, 2\)"):
        plot.line(descent, x, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="X must have the 1 columns of the fit, got 2"):
        plot.animate(descent, np.hstack([x, x]), y)
    for features in (["a", "b"], "a"):
        with pytest.raises(ValueError, match="features must hold the names of the 1 columns of X, got"):
            plot.paths(descent, features=features)
    with pytest.raises(TypeError, match=r"frames must be a whole number, got 2.5"):
        plot.animate(descent, x, y, frames=2.5)


def test_contours_that_cannot_be_drawn_are_refused(points, descent, wide):
    x, y = points
    plot = sgdm.plot
    with pytest.raises(ValueError, match=r"needs two parameters, the fit has one, x; draw sgdm.plot.paths\(result\)"):
        plot.contours(sgdm.fit(x, y), x, y)
    for params in ((0, 0), (0, 2), (1, -1), (0,), (0, 1.0), "ab", 1):
        with pytest.raises(ValueError, match="params must be the numbers of two different parameters, of 0 to 1, got"):
            plot.contours(descent, x, y, params=params)
    reduced = sgdm.compress(x, y)
    with pytest.raises(ValueError, match=r"the 2 parameters of the fit, intercept included, .* got Compressed"):
        plot.contours(descent, reduced)
    with pytest.raises(ValueError, match="a Compressed holds y already; leave y out"):
        plot.contours(descent, reduced, y)


def test_a_picture_needs_matplotlib(monkeypatch, points, descent):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    animate = {"animate": lambda: sgdm.plot.animate(descent, *points)}
    for picture in (*pictures(descent, *points).values(), *animate.values()):
        with pytest.raises(ImportError, match=r"sgdm.plot needs matplotlib: pip install 'sgdm\[plot\]'"):
            picture()
