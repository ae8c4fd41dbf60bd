"""Fine-tune Phi-3-Vision on your own pictures and texts, and prove that it looks at them.

Importing this package is cheap on purpose: the command line refuses a misspelt key before torch
is loaded.
"""

__version__ = "0.1.0"
