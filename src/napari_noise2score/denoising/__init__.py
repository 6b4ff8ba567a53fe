"""Denoising of images of any size: tiles, lazy arrays, jobs, cluster, live preview."""
