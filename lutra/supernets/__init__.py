"""Networks with weights: elastic layers, training, extraction, evaluation.

A supernet holds the weights of every network of a space; a subnet's are slices of them (Cai et
al., "Once-for-All", ICLR 2020). What a subnet computes is the graph that the space's ops expand
to, node by node: the graph that is timed and exported.
"""
