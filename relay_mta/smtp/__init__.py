"""The SMTP edges: the server that clients meet and the client that meets the upstream."""
