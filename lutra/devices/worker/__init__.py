"""The worker: times model files in a process of its own, on this machine or on a board.

The whole folder is copied to boards. It imports only the standard library, numpy and the runtime
that it times, and speaks Python 3.8.
"""
