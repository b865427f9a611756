"""Self-contained HTML pages, notebook views and SVG figures."""
