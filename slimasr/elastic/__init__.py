"""Layers that run at any allowed size, with one set of weights, and count what each size costs.

Every layer has three methods: ``forward`` runs it at a size, ``count`` returns parameters and MACs of that size, and
``extract`` copies that size into a stand-alone layer. Sizes are arguments: no layer remembers which subnet is running.
"""
