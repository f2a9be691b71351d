"""Decided records become files: segments that manifests share, and the manifest that names them by digest."""
