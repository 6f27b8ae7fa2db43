"""Cipher suites where TLS 1.2 has to be spoken."""

from __future__ import annotations

BCP_195_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""Forward-secret AEAD suites alone (BCP 195, RFC 9325 section 4.2), as OpenSSL names them."""
