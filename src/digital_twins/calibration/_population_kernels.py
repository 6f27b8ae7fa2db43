"""Compiled linear algebra of population fits: a loop over patients, each with a handful of readings."""

from __future__ import annotations

import numpy as np

from digital_twins._compiled import jit


@jit
def _cholesky(a, n):  # type: ignore[no-untyped-def]
    """Lower factor of the leading n x n block in place; returns the logarithm of its determinant."""
    log_determinant = 0.0
    for j in range(n):
        for k in range(j):
            a[j, j] -= a[j, k] * a[j, k]
        a[j, j] = np.sqrt(max(a[j, j], 1e-300))
        log_determinant += 2.0 * np.log(a[j, j])
        for i in range(j + 1, n):
            for k in range(j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]
    return log_determinant


@jit
def _forward(lower, n, b):  # type: ignore[no-untyped-def]
    """Solve L x = b in place."""
    for i in range(n):
        for k in range(i):
            b[i] -= lower[i, k] * b[k]
        b[i] /= lower[i, i]


@jit
def _backward(lower, n, b):  # type: ignore[no-untyped-def]
    """Solve L^T x = b in place."""
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            b[i] -= lower[k, i] * b[k]
        b[i] /= lower[i, i]


@jit
def _noise_factor(days, n, wander, noise, out):  # type: ignore[no-untyped-def]
    """Cholesky factor of wander * (min(t, t') - t_0) + noise I over the patient's readings."""
    for i in range(n):
        for j in range(i + 1):
            out[i, j] = wander * (days[j] - days[0])
        out[i, i] += noise
    return _cholesky(out, n)


@jit
def misfits(days, counts, residuals, variances, out):  # type: ignore[no-untyped-def]
    """Set out[p] = r^T K^-1 r of every patient; ``variances`` is (wander per day, noise)."""
    work = np.empty((days.shape[1], days.shape[1]))
    vector = np.empty(days.shape[1])
    for p in range(counts.size):
        n = counts[p]
        _noise_factor(days[p], n, variances[0], variances[1], work)
        vector[:n] = residuals[p, :n]
        _forward(work, n, vector)
        total = 0.0
        for i in range(n):
            total += vector[i] * vector[i]
        out[p] = total


@jit
def gauss_newton(days, counts, linear, variances, damping, results):  # type: ignore[no-untyped-def]
    """Damped Gauss-Newton step and undamped Laplace covariance of every patient's parameters.

    ``linear`` is (residuals, jacobian, prior pull, prior precision), ``results`` (steps, covariances).
    """
    residuals, jacobian, prior_pull, prior_precision = linear
    steps, covariances = results
    width, size = days.shape[1], jacobian.shape[2]
    work = np.empty((width, width))
    white = np.empty((width, size))
    vector = np.empty(width)
    information = np.empty((size, size))
    column = np.empty(max(size, width))
    for p in range(counts.size):
        n = counts[p]
        _noise_factor(days[p], n, variances[0], variances[1], work)
        vector[:n] = residuals[p, :n]
        _forward(work, n, vector)
        for a in range(size):
            column[:n] = jacobian[p, :n, a]
            _forward(work, n, column)
            white[:n, a] = column[:n]
        for a in range(size):
            steps[p, a] = prior_pull[p, a]
            for i in range(n):
                steps[p, a] += white[i, a] * vector[i]
            for b in range(size):
                total = prior_precision[a, b]
                for i in range(n):
                    total += white[i, a] * white[i, b]
                covariances[p, a, b] = total
                information[a, b] = total
            information[a, a] *= 1.0 + damping[p]
        _cholesky(information, size)
        _forward(information, size, steps[p])
        _backward(information, size, steps[p])
        information[:, :] = covariances[p]
        _cholesky(information, size)
        for a in range(size):
            column[:size] = 0.0
            column[a] = 1.0
            _forward(information, size, column)
            _backward(information, size, column)
            covariances[p, :, a] = column[:size]


@jit
def deviance(days, counts, residuals, jacobian, prior_covariance, variances, freedom, weights):  # type: ignore[no-untyped-def]
    """-2 log marginal likelihood, linearised: Student-t with ``freedom`` (<= 0: normal) of every patient.

    ``residuals`` are those of the linearised curve at the population's mean. ``weights`` is set to the
    patients' weights (freedom + n) / (freedom + q).
    """
    width, size = days.shape[1], jacobian.shape[2]
    work = np.empty((width, width))
    vector = np.empty(width)
    half = np.empty(size)
    total = 0.0
    for p in range(counts.size):
        n = counts[p]
        for i in range(n):
            for a in range(size):
                half[a] = 0.0
                for b in range(size):
                    half[a] += jacobian[p, i, b] * prior_covariance[b, a]
            for j in range(i + 1):
                value = variances[0] * (days[p, j] - days[p, 0])
                for a in range(size):
                    value += half[a] * jacobian[p, j, a]
                work[i, j] = value
            work[i, i] += variances[1]
        total += _cholesky(work, n)
        vector[:n] = residuals[p, :n]
        _forward(work, n, vector)
        q = 0.0
        for i in range(n):
            q += vector[i] * vector[i]
        weights[p] = (freedom + n) / (freedom + q) if freedom > 0.0 else 1.0
        total += (freedom + n) * np.log1p(q / freedom) if freedom > 0.0 else q
    return total


@jit
def predict(days, counts, fitted, variances, ahead, results):  # type: ignore[no-untyped-def]
    """Conditional mean of the wander and total predictive variance at days after the last reading.

    ``fitted`` is (residuals, jacobian, covariances), ``ahead`` (days, jacobian), ``results`` (mean,
    variance).
    """
    residuals, jacobian, covariances = fitted
    ahead_days, ahead_jacobian = ahead
    mean, variance = results
    width, size = days.shape[1], jacobian.shape[2]
    work = np.empty((width, width))
    vector = np.empty(width)
    cross = np.empty(width)
    slope = np.empty(size)
    for p in range(counts.size):
        n = counts[p]
        _noise_factor(days[p], n, variances[0], variances[1], work)
        vector[:n] = residuals[p, :n]
        _forward(work, n, vector)
        _backward(work, n, vector)
        for m in range(ahead_days.shape[1]):
            since = ahead_days[p, m] - days[p, 0]
            for i in range(n):
                cross[i] = variances[0] * min(days[p, i] - days[p, 0], since)
            pull = 0.0
            for i in range(n):
                pull += cross[i] * vector[i]
            mean[p, m] = pull
            _forward(work, n, cross)
            own = variances[0] * since + variances[1]
            for i in range(n):
                own -= cross[i] * cross[i]
            _backward(work, n, cross)
            for a in range(size):
                slope[a] = ahead_jacobian[p, m, a]
                for i in range(n):
                    slope[a] -= cross[i] * jacobian[p, i, a]
            for a in range(size):
                for b in range(size):
                    own += slope[a] * covariances[p, a, b] * slope[b]
            variance[p, m] = own
