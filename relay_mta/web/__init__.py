"""The candidate's page and the health check."""
