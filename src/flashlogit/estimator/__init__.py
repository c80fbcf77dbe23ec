"""scikit-learn's interface to the fits.

Pickles name the module of their class, so that `flashlogit.estimator.LogisticRegression` stays where it was in
0.1.0, and the classes of a fitted estimator's attributes are found under the names that they had then.
"""

from __future__ import annotations

import sys

from ..fitting import inference
from ..objectives import coordinates
from ..training import partial_fit
from .cross_validation import LogisticRegressionCV as LogisticRegressionCV
from .logistic_regression import LogisticRegression as LogisticRegression

for _name, _module in (("inference", inference), ("minibatch", partial_fit), ("coordinates", coordinates)):
    sys.modules.setdefault(f"flashlogit.{_name}", _module)
