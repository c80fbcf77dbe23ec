"""Tables for the estimator's tests: X and y, as they come and with scaled columns."""

from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.preprocessing import scale

CANCER, IRIS, WINE = (load(return_X_y=True) for load in (load_breast_cancer, load_iris, load_wine))
SCALED, WINE_SCALED = ((scale(X), y) for X, y in (CANCER, WINE))
SMALL = SCALED[0][::4, :8], SCALED[1][::4]
