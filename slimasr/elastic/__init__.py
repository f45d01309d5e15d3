"""Layers that run at any allowed size, with one set of weights, and say what each size weighs and costs.

Every layer offers ``forward`` at a size, ``count`` of parameters and MACs there, and ``extract`` of a stand-alone
layer of that size. Sizes come in as arguments: no layer remembers which subnet is running.
"""
