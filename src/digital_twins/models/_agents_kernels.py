"""Compiled rules of the cells (numba). Randomness is a hash of (key, site), so order never matters."""

from __future__ import annotations

import numpy as np

from digital_twins.models._kernels import _jit

EMPTY, PROLIFERATING, QUIESCENT, NECROTIC, IMMUNE, VESSEL, WALL = range(7)

EVENTS = (
    "divisions",
    "apoptosis",
    "drug_kills",
    "starvation",
    "radiation_kills",
    "immune_kills",
    "cleared",
    "immune_entries",
    "immune_deaths",
)
(_DIVIDED, _APOPTOSIS, _DRUG, _STARVED, _RADIATION, _LYSED, _CLEARED, _ENTERED, _IMMUNE_DIED) = range(9)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_TO_UNIT = 1.0 / 4294967296.0


@_jit
def _hash(key, index):  # type: ignore[no-untyped-def]
    """64 random bits (SplitMix64; Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195)."""
    z = key + (np.uint64(index) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@_jit
def _uniforms(key, index):  # type: ignore[no-untyped-def]
    """Two independent uniforms in [0, 1)."""
    bits = _hash(key, index)
    return np.float64(bits >> _S32) * _TO_UNIT, np.float64(bits & _LOW) * _TO_UNIT


@_jit
def _below(key, index, bound):  # type: ignore[no-untyped-def]
    """A random integer in 0..bound-1 (bound < 2^31; bias below bound / 2^32)."""
    return np.int64(((_hash(key, index) >> _S32) * np.uint64(bound)) >> _S32)


@_jit
def _shuffle(items, count, key):  # type: ignore[no-untyped-def]
    for i in range(count - 1, 0, -1):
        j = _below(key, i, i + 1)
        items[i], items[j] = items[j], items[i]


@_jit
def _free_neighbour(cells, site, offsets, pick):  # type: ignore[no-untyped-def]
    """The ``pick``-th of the free neighbours modulo their number, or -1."""
    free = 0
    for offset in offsets:
        free += cells[site + offset] == EMPTY
    if free == 0:
        return -1
    left = pick % free
    for offset in offsets:
        if cells[site + offset] == EMPTY:
            if left == 0:
                return site + offset
            left -= 1
    return -1


@_jit
def uptake_of(cells, rates, uptake):  # type: ignore[no-untyped-def]
    """Write each site's scaled uptake by its state."""
    for i in range(cells.size):
        uptake[i] = rates[cells[i]]


@_jit
def decide(old, new, fields, rates, crowding, key, lists, ledger):  # type: ignore[no-untyped-def]
    """One step of every cell on its own: death, clearance, quiescence; who divides, moves or is immune.

    ``fields`` are oxygen, nutrient and drug share; ``rates`` the step's (apoptosis, drug, starvation) log
    kills, the probabilities of clearance, division and migration, and the four thresholds. ``lists``
    receives the sites of dividing, moving and immune cells; their numbers return.
    """
    oxygen, nutrient, drug = fields
    log_kill, chance, hypoxia, necrosis = rates
    dividing, moving, immune = lists
    n_dividing = n_moving = n_immune = 0
    key_move = _hash(key, 1)
    for i in range(old.size):
        state = old[i]
        if state == EMPTY or state >= VESSEL:
            continue
        if state == IMMUNE:
            immune[n_immune] = i
            n_immune += 1
            continue
        u, v = _uniforms(key, i)
        if state == NECROTIC:
            if u < chance[0]:
                new[i] = EMPTY
                ledger[_CLEARED] += 1
            continue
        starves = oxygen[i] < necrosis[0] or nutrient[i] < necrosis[1]
        apoptosis, kill = log_kill[0], log_kill[1] * drug[i]
        total = apoptosis + kill + (log_kill[2] if starves else 0.0)
        dead = -np.expm1(-total)
        if u < dead:
            _die(new, i, u / dead * total, (apoptosis, apoptosis + kill), ledger)
            continue
        sleeps = oxygen[i] < hypoxia[0] or nutrient[i] < hypoxia[1] or _crowded(old, i, crowding)
        new[i] = QUIESCENT if sleeps else PROLIFERATING
        if sleeps:
            continue
        if v < chance[1]:
            dividing[n_dividing] = i
            n_dividing += 1
        if chance[2] > 0.0 and _uniforms(key_move, i)[0] < chance[2]:
            moving[n_moving] = i
            n_moving += 1
    return n_dividing, n_moving, n_immune


@_jit
def _crowded(cells, site, offsets):  # type: ignore[no-untyped-def]
    """Whether every neighbour is taken; never without neighbours to look at."""
    return offsets.size > 0 and _free_neighbour(cells, site, offsets, 0) < 0


@_jit
def _die(new, i, share, bounds, ledger):  # type: ignore[no-untyped-def]
    """Attribute a death to its competing cause in proportion to the hazards."""
    if share < bounds[0]:
        new[i] = EMPTY
        ledger[_APOPTOSIS] += 1
    elif share < bounds[1]:
        new[i] = NECROTIC
        ledger[_DRUG] += 1
    else:
        new[i] = NECROTIC
        ledger[_STARVED] += 1


@_jit
def divide(cells, sites, offsets, placement, key, ledger):  # type: ignore[no-untyped-def]
    """Divide in random order; 0 free neighbour, 1 random neighbour, 2 any of ``cells`` (well mixed)."""
    _shuffle(sites, sites.size, key)
    pick_key = _hash(key, 2)
    for i in range(sites.size):
        site = sites[i]
        if placement == 0:
            target = _free_neighbour(cells, site, offsets, _below(pick_key, i, 720720))
        elif placement == 1:
            target = site + offsets[_below(pick_key, i, offsets.size)]
        else:
            target = _inside(cells, pick_key, i)
        if target >= 0 and cells[target] == EMPTY:
            cells[target] = PROLIFERATING
            ledger[_DIVIDED] += 1


@_jit
def _inside(cells, key, i):  # type: ignore[no-untyped-def]
    """A random site that is not wall (the padding is rejected and drawn again)."""
    target = _below(_hash(key, i), 0, cells.size)
    draw = 1
    while cells[target] == WALL:
        target = _below(_hash(key, i), draw, cells.size)
        draw += 1
    return target


@_jit
def migrate(cells, sites, offsets, key):  # type: ignore[no-untyped-def]
    """Move each cell, in random order, to a random neighbour if that is free."""
    _shuffle(sites, sites.size, key)
    pick_key = _hash(key, 2)
    for i in range(sites.size):
        target = sites[i] + offsets[_below(pick_key, i, offsets.size)]
        if cells[target] == EMPTY:
            cells[target] = cells[sites[i]]
            cells[sites[i]] = EMPTY


@_jit
def irradiate(cells, oxygen, dose, lq, oer, key, ledger):  # type: ignore[no-untyped-def]
    """Kill living tumour cells by the linear-quadratic law of the dose that their oxygen leaves."""
    alpha, beta = lq
    most, half = oer
    for i in range(cells.size):
        if cells[i] == PROLIFERATING or cells[i] == QUIESCENT:
            p = max(np.float64(oxygen[i]), 0.0)
            effective = dose * (most * p + half) / (most * (p + half))
            survival = np.exp(-effective * (alpha + beta * effective))
            if _uniforms(key, i)[0] >= survival:
                cells[i] = NECROTIC
                ledger[_RADIATION] += 1


@_jit
def act_immune(cells, sites, offsets, chemokine, rates, key, ledger):  # type: ignore[no-untyped-def]
    """Each immune cell, in random order: die, or walk until it touches a tumour cell and try to kill it."""
    death, kill, steps, bias = rates
    _shuffle(sites, sites.size, key)
    for i in range(sites.size):
        own = _hash(key, sites.size + i)
        site = sites[i]
        u, v = _uniforms(own, 0)
        if u < death:
            cells[site] = EMPTY
            ledger[_IMMUNE_DIED] += 1
            continue
        whole = np.int64(steps)
        moves = whole + (v < steps - whole)
        for move in range(moves + 1):
            prey = _prey(cells, site, offsets, _below(own, 3 * move + 1, 720720))
            if prey >= 0:
                if _uniforms(own, 3 * move + 2)[0] < kill:
                    cells[prey] = EMPTY
                    ledger[_LYSED] += 1
                break
            if move < moves:
                site = _step(cells, site, offsets, chemokine, bias, _hash(own, 3 * move + 3))


@_jit
def _prey(cells, site, offsets, pick):  # type: ignore[no-untyped-def]
    """One of the neighbouring living tumour cells, or -1."""
    found = 0
    for offset in offsets:
        found += cells[site + offset] == PROLIFERATING or cells[site + offset] == QUIESCENT
    if found == 0:
        return -1
    left = pick % found
    for offset in offsets:
        if cells[site + offset] == PROLIFERATING or cells[site + offset] == QUIESCENT:
            if left == 0:
                return site + offset
            left -= 1
    return -1


@_jit
def _step(cells, site, offsets, chemokine, bias, key):  # type: ignore[no-untyped-def]
    """Move an immune cell one site: up the chemokine with probability ``bias``, else at random."""
    u = _uniforms(key, 0)[0]
    target = -1
    if u < bias:
        best = chemokine[site]
        for offset in offsets:
            near = site + offset
            if cells[near] == EMPTY and chemokine[near] > best:
                best, target = chemokine[near], near
    if target < 0:
        target = _free_neighbour(cells, site, offsets, _below(key, 1, 720720))
    if target < 0:
        return site
    cells[target] = IMMUNE
    cells[site] = EMPTY
    return target


@_jit
def enter_immune(cells, vessels, offsets, chance, key, ledger):  # type: ignore[no-untyped-def]
    """Let immune cells leave vessel sites into a free neighbour."""
    for i in range(vessels.size):
        if _uniforms(key, i)[0] < chance:
            target = _free_neighbour(cells, vessels[i], offsets, _below(_hash(key, 2), i, 720720))
            if target >= 0:
                cells[target] = IMMUNE
                ledger[_ENTERED] += 1
