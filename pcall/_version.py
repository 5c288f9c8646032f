__version__: str = "0.2.0"
