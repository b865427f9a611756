"""Reports for people, in the terminal and as HTML: pure functions of manifests and results."""
