"""Compiled diffusion over a graph of voxels; apart, so that only anisotropic domains compile it."""

from __future__ import annotations

from digital_twins.models._kernels import _jit


@_jit
def graph_stage(out, density, graph, h):  # type: ignore[no-untyped-def]
    """Set ``out = u + h L u`` at the graph's voxels; ``graph`` is (voxels, start, neighbour, weight)."""
    voxels, start, neighbour, weight = graph
    for row in range(voxels.size):
        i = voxels[row]
        v = density[i]
        change = density.dtype.type(0.0)
        for edge in range(start[row], start[row + 1]):
            change += weight[edge] * (density[neighbour[edge]] - v)
        out[i] = v + h * change


@_jit
def diffuse_graph(density, scratch, graph, scale, repeats, gain, saturation):  # type: ignore[no-untyped-def]
    """Advance ``density`` in place as ``diffuse_and_react`` does, over the edges of a graph."""
    voxels = graph[0]
    one = density.dtype.type(1.0)
    half = density.dtype.type(0.5)
    first, second = scratch[0], scratch[1]
    for step in range(scale.size):
        for _ in range(repeats[step]):
            graph_stage(first, density, graph, scale[step])
            graph_stage(second, first, graph, scale[step])
            for row in range(voxels.size):
                i = voxels[row]
                density[i] = half * (density[i] + second[i])
        for row in range(voxels.size):
            i = voxels[row]
            density[i] = gain[step] * density[i] / (one + saturation[step] * density[i])
