"""Connections, group commit, blobs, the job queue and migrations."""
