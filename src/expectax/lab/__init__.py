"""The laboratory: data, training, checkpoints, run folders, pictures, experiments.

Nothing here is imported by `import expectax`; it needs `pip install expectax[lab]`.
"""
