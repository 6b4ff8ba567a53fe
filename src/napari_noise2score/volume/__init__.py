"""Images of any size: files and their metadata, tiles, lazy results, comparison."""
