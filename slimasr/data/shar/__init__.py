"""Training sets as shards in lhotse's Shar format: written by stage 2 or given, and read as a stream.

``files`` names the files of a shard and reads one; ``record`` says which shards a set has; ``sample`` draws a part of
them; ``writing`` makes them, ``found`` finds given ones and ``lists`` reads lists of these. For training, ``order``
divides a pass over the shards into blocks and these among processes; ``buckets`` and ``reader`` make the batches of one
of them; ``source`` puts the batches of all readers of a process together.
"""
