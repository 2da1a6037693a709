"""What the estimators of `sgdm.sklearn` share, and all that is imported of scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._validation import as_weights

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning  # type: ignore[import-untyped]  # noqa: F401
    from sklearn.model_selection import check_cv  # type: ignore[import-untyped]  # noqa: F401
    from sklearn.utils import check_random_state  # type: ignore[import-untyped]  # noqa: F401
    from sklearn.utils.validation import check_is_fitted, validate_data  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError("sgdm.sklearn needs scikit-learn 1.6 or later: pip install 'sgdm[sklearn]'") from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._results.history import History

_DTYPES = [np.float64, np.float32]


class DescentRegressor(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """The base of the estimators: checks of the data, fitted attributes, predictions."""

    def _check(self, X, y, sample_weight, reset=True):
        """The data as arrays of one dtype."""
        X, y = validate_data(self, X, y, reset=reset, dtype=_DTYPES, multi_output=True, y_numeric=True)
        if sample_weight is not None:
            sample_weight, _ = as_weights(sample_weight, len(X), X.dtype, positive=False)
            if not sample_weight.any():
                raise ValueError("sample_weight must not be zero for every row")
        return X, y.astype(X.dtype, copy=False), sample_weight

    def _shallow_copy(self):
        """A shallow copy. It is fitted, and then its attributes replace those of this estimator in one assignment:
        an exception at any time leaves all attributes of the last fit, or all of the new one."""
        copy = object.__new__(type(self))
        vars(copy).update(vars(self))
        return copy

    def _set_result(self, result):
        """Sets the fitted attributes."""
        if result.feature_names is None and hasattr(self, "feature_names_in_"):
            result = replace(result, feature_names=tuple(self.feature_names_in_.tolist()))
        averaged = result.average_coef is not None
        self.coef_ = (result.average_coef if averaged else result.coef).T
        self.intercept_ = result.average_intercept if averaged else result.intercept
        self.n_iter_ = result.epochs
        self.result_ = result

    @property
    def history_(self) -> History:
        """The history of the descent."""
        return self.result_.history

    @property
    def loss_curve_(self) -> np.ndarray | None:
        """The loss of each recorded epoch."""
        return self.result_.history.loss

    @np.errstate(all="ignore")
    def predict(self, X: ArrayLike) -> np.ndarray:
        """``X @ coef_.T + intercept_``, of shape (n,) or (n, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_DTYPES)
        return X @ self.coef_.T + self.intercept_
