"""What one listener grants its peers, and how this implementation names itself to them."""

from __future__ import annotations

from dataclasses import dataclass

IMPLEMENTATION_CLASS_UID = "2.25.212706317014384166152386157236482106837"
IMPLEMENTATION_VERSION = "DIGITALTWINS_01"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener grants its peers.

    Attributes
    ----------
    max_pdu_bytes
        Largest P-DATA-TF that is received; announced to the peer.
    max_associations
        Established associations at a time; the next request is rejected as 'local limit exceeded'.
    max_half_open
        Connections that have not yet associated; beyond it the oldest is dropped.
    max_object_bytes, max_buffered_bytes
        Largest single object, and bytes of unfinished objects of all associations together in memory.
    artim_s
        Seconds that a new connection has for its request, and a finished one for closing (PS3.8 9.1.5).
    idle_s
        Seconds without a byte, while nothing is being processed, after which an association is aborted;
        also what a peer has for its answer to a request of ours.
    max_association_s
        Longest life of an association; it is aborted between two requests.
    max_associations_per_minute
        New associations of one network address a minute; beyond it 'temporary congestion'.
    """

    max_pdu_bytes: int = 131072
    max_associations: int = 64
    max_half_open: int = 128
    max_object_bytes: int = 2**32
    max_buffered_bytes: int = 2**31
    artim_s: float = 30.0
    idle_s: float = 300.0
    max_association_s: float = 86400.0
    max_associations_per_minute: int = 6000
