"""Exact areas of polygons on pixels, and the outlines of pixels as polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def polygon_coverage(vertices: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return the part of each pixel inside a closed polygon by the even-odd rule, 0..1, [row, column].

    Exact for simple polygons and for keyholes (an inner outline joined to the outer one by a channel walked
    twice): each piece of an edge within one pixel adds its height, and the area to its right, to a sum that
    runs along the row.

    Parameters
    ----------
    vertices
        [point, 2]: fractional (row, column), the pixel [i, j] being the square i +- 1/2, j +- 1/2. Outside
        the grid is allowed.
    shape
        Rows and columns of the grid.
    """
    corners = np.asarray(vertices, dtype=np.float64) + 0.5
    # What is left of the grid counts as on its left wall, what is right of it covers nothing inside.
    edges = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    edges = _clipped(edges, shape)
    pieces = _cut(_cut(edges, axis=0), axis=1)
    middle = pieces.mean(axis=1)
    row = np.clip(np.floor(middle[:, 0]).astype(int), 0, shape[0] - 1)
    column = np.clip(np.floor(middle[:, 1]).astype(int), 0, shape[1])
    height = pieces[:, 1, 0] - pieces[:, 0, 0]
    right = np.clip(column + 1 - middle[:, 1], 0.0, 1.0)
    total = np.zeros((shape[0], shape[1] + 2))
    np.add.at(total, (row, column), height * right)
    np.add.at(total, (row, column + 1), height * (1.0 - right))
    winding = np.abs(np.cumsum(total, axis=1)[:, : shape[1]])
    return np.asarray(1.0 - np.abs(1.0 - np.mod(winding, 2.0)))


def _clipped(edges: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Cut edges at the grid's rim; rows outside are dropped, columns outside moved onto the rim."""
    for axis, limits in ((0, (0.0, float(shape[0]))), (1, (0.0, float(shape[1])))):
        for limit in limits:
            edges = _split_at(edges, axis, limit)
    middle = edges.mean(axis=1)[:, 0]
    edges = edges[(middle > 0.0) & (middle < shape[0])]
    edges[..., 1] = np.clip(edges[..., 1], 0.0, shape[1])
    return edges


def _split_at(edges: FloatArray, axis: int, limit: float) -> FloatArray:
    start, end = edges[:, 0, axis] - limit, edges[:, 1, axis] - limit
    crossing = start * end < 0.0
    if not crossing.any():
        return edges
    part = (start[crossing] / (start[crossing] - end[crossing]))[:, None]
    point = edges[crossing, 0] + part * (edges[crossing, 1] - edges[crossing, 0])
    point[:, axis] = limit
    halves = [np.stack([edges[crossing, 0], point], 1), np.stack([point, edges[crossing, 1]], 1)]
    return np.concatenate([edges[~crossing], *halves])


def _cut(edges: FloatArray, *, axis: int) -> FloatArray:
    """Cut every edge at the whole numbers that it crosses along an axis."""
    low = edges[:, :, axis].min(axis=1)
    high = edges[:, :, axis].max(axis=1)
    first = np.floor(low) + 1.0
    count = np.maximum(np.ceil(high) - first, 0.0).astype(int)
    owner = np.repeat(np.arange(len(edges)), count + 1)
    nth = np.arange(owner.size) - np.repeat(np.cumsum(count + 1) - (count + 1), count + 1)
    span = np.where(high > low, high - low, 1.0)
    # Walk each edge upwards along the axis; the pieces keep the edge's direction through the sign.
    rising = edges[:, 0, axis] <= edges[:, 1, axis]
    bottom = np.where(rising[:, None], edges[:, 0], edges[:, 1])
    top = np.where(rising[:, None], edges[:, 1], edges[:, 0])
    start = np.where(nth == 0, 0.0, (first[owner] + nth - 1.0 - low[owner]) / span[owner])
    end = np.where(nth == count[owner], 1.0, (first[owner] + nth - low[owner]) / span[owner])
    run = (top - bottom)[owner]
    a = bottom[owner] + start[:, None] * run
    b = bottom[owner] + end[:, None] * run
    forward = rising[owner][:, None]
    return np.stack([np.where(forward, a, b), np.where(forward, b, a)], axis=1)


def outlines(plane: NDArray[Any]) -> list[FloatArray]:
    """Return the outlines of a boolean plane along its pixels' edges, holes joined by keyholes.

    Each is [point, 2] in fractional (row, column), closed without repeating the first point; together they
    enclose exactly the pixels that are set. Pixels that touch at a corner only are outlined apart.
    """
    loops = _loops(np.asarray(plane, dtype=bool))
    areas = [_signed_area(loop) for loop in loops]
    outer = [loop for loop, area in zip(loops, areas, strict=True) if area > 0.0]
    holes = [loop for loop, area in zip(loops, areas, strict=True) if area < 0.0]
    for hole in sorted(holes, key=lambda loop: (float(loop[:, 1].min()), float(loop[:, 0].min()))):
        _join(outer, hole)
    return [loop - 0.5 for loop in outer]


def _loops(plane: NDArray[np.bool_]) -> list[FloatArray]:
    """Closed walks along pixel edges, set pixels on the right hand; outer ones have a positive area."""
    padded = np.pad(plane, 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    here = padded[1:-1, 1:-1]
    sides = (
        (here & ~padded[:-2, 1:-1], (0, 0), (0, 1)),
        (here & ~padded[1:-1, 2:], (0, 1), (1, 1)),
        (here & ~padded[2:, 1:-1], (1, 1), (1, 0)),
        (here & ~padded[1:-1, :-2], (1, 0), (0, 0)),
    )
    for open_side, a, b in sides:
        for row, column in np.argwhere(open_side).tolist():
            start = (row + a[0], column + a[1])
            following.setdefault(start, []).append((row + b[0], column + b[1]))
    loops = []
    while following:
        start = next(iter(following))
        loops.append(_walk(following, start))
    return loops


def _walk(following: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> FloatArray:
    walked = [start]
    heading = (0, 0)
    at = start
    while True:
        ways = following[at]
        # Where two pixels touch at a corner, turn right: they stay apart.
        way = max(ways, key=lambda to: heading[1] * (to[0] - at[0]) - heading[0] * (to[1] - at[1]))
        ways.remove(way)
        if not ways:
            del following[at]
        turn = (way[0] - at[0], way[1] - at[1])
        if turn == heading:
            walked.pop()
        walked.append(way)
        heading, at = turn, way
        if at == start:
            break
    points = np.array(walked[:-1], dtype=np.float64)
    first = points[0] - points[-1]
    if len(points) > 4 and first[0] * (points[1] - points[0])[1] == first[1] * (points[1] - points[0])[0]:
        points = points[1:]
    return points


def _signed_area(loop: FloatArray) -> float:
    following = np.roll(loop, -1, axis=0)
    return 0.5 * float(np.sum(loop[:, 1] * following[:, 0] - following[:, 1] * loop[:, 0]))


def _join(outer: list[FloatArray], hole: FloatArray) -> None:
    """Join a hole to the outline on its left: along its row to the nearest edge, and back."""
    entry = int(np.lexsort((hole[:, 0], hole[:, 1]))[0])
    row, column = hole[entry]
    best: tuple[float, int, int] | None = None
    for index, loop in enumerate(outer):
        following = np.roll(loop, -1, axis=0)
        low = np.minimum(loop[:, 0], following[:, 0])
        high = np.maximum(loop[:, 0], following[:, 0])
        upright = (loop[:, 1] == following[:, 1]) & (low <= row) & (row <= high) & (loop[:, 1] <= column)
        for edge in np.flatnonzero(upright).tolist():
            if best is None or loop[edge, 1] > best[0]:
                best = (float(loop[edge, 1]), index, edge)
    if best is None:
        raise ValueError("a hole lies inside an outline")
    at, index, edge = best
    gate = np.array([[row, at]])
    round_trip = np.concatenate([hole[entry:], hole[: entry + 1]])
    loop = outer[index]
    outer[index] = np.concatenate([loop[: edge + 1], gate, round_trip, gate, loop[edge + 1 :]])
