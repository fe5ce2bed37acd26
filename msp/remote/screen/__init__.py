"""Remote screens (RFC 6143): a way in without exit statuses, and what a step may do on it."""
