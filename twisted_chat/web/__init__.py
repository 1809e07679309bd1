"""The HTTP edge: the page, the API, and everything that is decided before an upgrade."""
