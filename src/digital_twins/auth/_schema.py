"""Tables of accounts, clients, sessions, grants and one-time values; secrets stand there as digests only."""

from __future__ import annotations

from digital_twins.storage import Migration

MIGRATIONS = (
    Migration(
        "auth.0001.tables",
        """
CREATE TABLE auth_user(
  name TEXT PRIMARY KEY, display TEXT NOT NULL, roles TEXT NOT NULL, password TEXT NOT NULL,
  totp TEXT, totp_last INTEGER NOT NULL DEFAULT 0, fhir_user TEXT, patient TEXT,
  disabled INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
  locked_until INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL);
CREATE TABLE auth_client(
  id TEXT PRIMARY KEY, name TEXT NOT NULL, secret TEXT, redirect_uris TEXT NOT NULL, launch_url TEXT,
  scope TEXT NOT NULL, jwks TEXT, jwks_url TEXT, disabled INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL);
CREATE TABLE auth_session(
  digest TEXT PRIMARY KEY, username TEXT NOT NULL, created INTEGER NOT NULL, seen INTEGER NOT NULL,
  ended INTEGER NOT NULL DEFAULT 0, emergency_until INTEGER NOT NULL DEFAULT 0);
CREATE TABLE auth_emergency(
  id TEXT PRIMARY KEY, username TEXT NOT NULL, reason TEXT NOT NULL, began INTEGER NOT NULL);
CREATE TABLE auth_grant(
  id TEXT PRIMARY KEY, client TEXT NOT NULL, username TEXT NOT NULL, scope TEXT NOT NULL, patient TEXT,
  context TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
  revoked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE auth_code(
  digest TEXT PRIMARY KEY, grant_id TEXT NOT NULL, redirect_uri TEXT NOT NULL, challenge TEXT NOT NULL,
  nonce TEXT, expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE auth_refresh(
  digest TEXT PRIMARY KEY, grant_id TEXT NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE auth_launch(
  digest TEXT PRIMARY KEY, client TEXT NOT NULL, username TEXT NOT NULL, patient TEXT NOT NULL,
  encounter TEXT, expires INTEGER NOT NULL);
CREATE TABLE auth_assertion(
  client TEXT NOT NULL, jti TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY(client, jti));
""",
        protected=("auth_emergency.reason",),
    ),
    Migration(
        "auth.0002.authenticators",
        """
CREATE TABLE auth_authenticator(
  credential TEXT PRIMARY KEY, username TEXT NOT NULL, public_key BLOB NOT NULL, sign_count INTEGER NOT NULL,
  label TEXT NOT NULL, created INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0);
CREATE INDEX auth_authenticator_user ON auth_authenticator(username);
CREATE TABLE auth_registration(
  session TEXT PRIMARY KEY, username TEXT NOT NULL, challenge TEXT NOT NULL, expires INTEGER NOT NULL);
""",
    ),
)
"""Schema steps for `digital_twins.storage.Database`."""
