"""Hessians of a sample of the rows, and inverses of their Cholesky factors, in tiles of `SIDE` x `SIDE` numbers.

    M = R A R + diag(penalty) = L L^T,      A = sum_i v_i h_i z_i z_i^T,      h_i the mean curvature of row i's classes

or the Hessian of all classes jointly, A = sum_i v_i (diag p_i - p_i p_i^T) x z_i z_i^T, of P C x P C numbers.

A matrix of P x P is [n, n, SIDE, SIDE], tile (i, j) holding rows of part i and columns of part j, and rows and columns
beyond P are those of the identity. The products of two tiles are made by the BLAS in the calling thread: LAPACK gives a
matrix to several threads, which wait for each other in loops and keep the cores from other work. On two busy cores 200
of 385 x 385 took 100 s, and take 2 s.
"""

import numpy as np

from .loops import helper, loop

SIDE = 64


@helper
def _curvatures(Z, at, begin, m, values, logits, product):
    """Write the curvature times the weight of m rows over their weights `values` [m]."""
    C = at.shape[2]
    z = logits[: m * C].reshape(m, C)
    for part in range(len(Z)):
        if part == 0:
            np.dot(Z[part, begin : begin + m], at[part], z)
        else:
            more = product[: m * C].reshape(m, C)
            np.dot(Z[part, begin : begin + m], at[part], more)
            for k in range(m):
                for c in range(C):
                    z[k, c] += more[k, c]
    for k in range(m):
        if C == 1:
            e = np.exp(-abs(z[k, 0]))
            values[k] *= e / ((np.float32(1.0) + e) * (np.float32(1.0) + e))
        else:
            most = z[k, 0]
            for c in range(1, C):
                most = max(most, z[k, c])
            total, squares = np.float32(0.0), np.float32(0.0)
            for c in range(C):
                e = np.exp(z[k, c] - most)
                total += e
                squares += e * e
            values[k] *= (np.float32(1.0) - squares / (total * total)) / np.float32(C)


@loop
def curvatures(Z, at, values):
    """Write the curvatures times the weights of rows Z [n, N, SIDE] over these weights, `values` [N] float32, at the
    coefficients `at` [n, SIDE, C] float32."""
    N, C = Z.shape[1], at.shape[2]
    logits, more = np.empty(SIDE * C, np.float32), np.empty(SIDE * C, np.float32)
    for begin in range(0, N, SIDE):
        m = min(SIDE, N - begin)
        _curvatures(Z, at, begin, m, values[begin : begin + m], logits, more)


@loop
def hessian(Z, weights, at, A):
    """Write the lower tiles of A [n, n, SIDE, SIDE] float64 of rows Z [n, N, SIDE] float32, their weights [N] float32
    and the coefficients `at` [n, SIDE, C] float32."""
    n, N = Z.shape[0], Z.shape[1]
    C = at.shape[2]
    A[:, :, :, :] = 0.0
    logits, more = np.empty(SIDE * C, np.float32), np.empty(SIDE * C, np.float32)
    values = np.empty(SIDE, np.float32)
    scaled, product = np.empty((n, SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
    for begin in range(0, N, SIDE):
        m = min(SIDE, N - begin)
        for k in range(m):
            values[k] = weights[begin + k]
        _curvatures(Z, at, begin, m, values, logits, more)
        for k in range(SIDE):
            root = np.sqrt(values[k]) if k < m else np.float32(0.0)
            for part in range(n):
                for j in range(SIDE):
                    scaled[part, k, j] = root * Z[part, begin + k, j] if k < m else np.float32(0.0)
        for i in range(n):
            for j in range(i + 1):
                np.dot(scaled[i].T, scaled[j], product)
                for k in range(SIDE):
                    for other in range(SIDE):
                        A[i, j, k, other] += np.float64(product[k, other])


@helper
def _class_curvatures(Z, weights, at, height, p, h):
    """Write p [N, C] and v p (1 - p) [N, C] of all rows, 1 - p as the sum of the others: as a difference that of a
    class that is almost certain would be all rounding."""
    N, C = p.shape
    more = np.empty((height, C), np.float32)
    p[:, :] = np.float32(0.0)
    for begin in range(0, N, height):
        m = min(height, N - begin)
        for part in range(len(Z)):
            np.dot(Z[part, begin : begin + m], at[part], more[:m])
            p[begin : begin + m] += more[:m]
    for k in range(N):
        most, total = p[k, 0], np.float32(0.0)
        for c in range(1, C):
            most = max(most, p[k, c])
        for c in range(C):
            p[k, c] = np.exp(p[k, c] - most)
            total += p[k, c]
        for c in range(C):
            others = np.float32(0.0)
            for d in range(C):
                if d != c:
                    others += p[k, d]
            h[k, c] = weights[k] * (p[k, c] / total) * (others / total)
        for c in range(C):
            p[k, c] /= total


@loop
def joint_hessian(Z, weights, at, height, least, A):
    """Write the blocks A [C, C, n, n, w, w] float64, of two classes and two parts each, of rows Z [n, N, w] float32 in
    n parts of columns, their weights [N] float32 and the coefficients `at` [n, w, C] float32; of the second class no
    more than the first one.

    height: rows of a product, so few that the BLAS makes it in the calling thread. least: share of a class's largest
    curvature below which a row's is left out: of most rows two or three classes are left, and A stays semidefinite.
    """
    (n, N, w), C = Z.shape, at.shape[2]
    A[:, :, :, :, :, :] = 0.0
    p, h = np.empty((N, C), np.float32), np.empty((N, C), np.float32)
    _class_curvatures(Z, weights, at, height, p, h)
    bounds = np.zeros(C, np.float32)
    for k in range(N):
        for c in range(C):
            bounds[c] = max(bounds[c], least * h[k, c])
    chosen, values = np.empty(N, np.int64), np.empty(N, np.float32)
    scaled, rows, product = (
        np.empty((height, w), np.float32),
        np.empty((height, w), np.float32),
        np.empty((w, w), np.float32),
    )
    for c in range(C):
        for d in range(c + 1):
            found = 0
            bound = max(bounds[c], bounds[d])
            for k in range(N):
                value = h[k, c] if c == d else weights[k] * p[k, c] * p[k, d]
                if value > bound:
                    chosen[found], values[found] = k, value if c == d else -value
                    found += 1
            for begin in range(0, found, height):
                m = min(height, found - begin)
                for i in range(n):
                    for k in range(m):
                        row, value = chosen[begin + k], values[begin + k]
                        for j in range(w):
                            scaled[k, j] = value * Z[i, row, j]
                    for other in range(n):
                        for k in range(m):
                            for j in range(w):
                                rows[k, j] = Z[other, chosen[begin + k], j]
                        np.dot(scaled[:m].T, rows[:m], product)
                        for k in range(w):
                            for j in range(w):
                                A[c, d, i, other, k, j] += np.float64(product[k, j])


@helper
def _factor_tile(tile, inverse):
    """Write the Cholesky factor of a tile over it, and the factor's inverse; return whether it has one."""
    for j in range(SIDE):
        total = tile[j, j]
        for k in range(j):
            total -= tile[j, k] * tile[j, k]
        if not (total > 0.0 and total < np.inf):
            return False
        root = np.sqrt(total)
        tile[j, j] = root
        for i in range(j + 1, SIDE):
            total = tile[i, j]
            for k in range(j):
                total -= tile[i, k] * tile[j, k]
            tile[i, j] = total / root
        for i in range(j):
            tile[i, j] = 0.0
    for j in range(SIDE):
        for i in range(SIDE):
            total = 1.0 if i == j else 0.0
            for k in range(j, i):
                total -= tile[i, k] * inverse[k, j]
            inverse[i, j] = total / tile[i, i] if i >= j else 0.0
    return True


@loop
def inverse_factor(A, relative, penalty, ridge, L, inverse):
    """Write L^-1 of M + ridge to the lower tiles of `inverse`; return whether there is one.

    A: as from `hessian`. relative, penalty: [n SIDE], R's and the penalty's diagonals, 0 and 1 beyond P. L, inverse:
    [n, n, SIDE, SIDE] float64.
    """
    n = len(A)
    product, total = np.empty((SIDE, SIDE)), np.empty((SIDE, SIDE))
    inverse[:, :, :, :] = 0.0
    for j in range(n):
        for i in range(j, n):
            tile = L[i, j]
            for k in range(SIDE):
                for m in range(SIDE):
                    tile[k, m] = A[i, j, k, m] * relative[i * SIDE + k] * relative[j * SIDE + m]
            if i == j:
                for k in range(SIDE):
                    tile[k, k] += penalty[j * SIDE + k] + ridge
            for before in range(j):
                np.dot(L[i, before], L[j, before].T, product)
                for k in range(SIDE):
                    for m in range(SIDE):
                        tile[k, m] -= product[k, m]
            if i == j:
                if not _factor_tile(tile, inverse[j, j]):
                    return False
            else:
                np.dot(tile, inverse[j, j].T, product)
                for k in range(SIDE):
                    for m in range(SIDE):
                        tile[k, m] = product[k, m]
    for j in range(n):
        for i in range(j + 1, n):
            total[:, :] = 0.0
            for k in range(j, i):
                np.dot(L[i, k], inverse[k, j], product)
                for row in range(SIDE):
                    for column in range(SIDE):
                        total[row, column] -= product[row, column]
            np.dot(inverse[i, i], total, inverse[i, j])
    return True


@loop
def multiply(inverse, v, middle, result):
    """Write L^-T L^-1 v for v [n, SIDE, k] to `result`; middle [n, SIDE, k] is scratch memory."""
    n = len(v)
    product = np.empty(v.shape[1:])
    for i in range(n):
        middle[i] = 0.0
        for j in range(i + 1):
            np.dot(inverse[i, j], v[j], product)
            middle[i] += product
    for j in range(n):
        result[j] = 0.0
        for i in range(j, n):
            np.dot(inverse[i, j].T, middle[i], product)
            result[j] += product
