"""Shipway's records in SQL, alike on SQLite and PostgreSQL."""
