"""Transcoders and sparse autoencoders from a text file to a folder of weights with their measured numbers beside them.

`making` trains and saves, `card` measures, and `commands` is the command line, which loads nothing heavy by itself.
"""
