"""The web page: templates, static files and words. A client of the REST API like any other; it holds no data."""
