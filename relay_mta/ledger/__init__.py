"""Stores for credit entries, personal records and delivery records; all fulfil `core.ports.Ledger`."""
