"""The Python API, which `import study` offers and the commands use."""
