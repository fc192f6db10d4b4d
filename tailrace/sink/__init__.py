"""Sink workers: conformed topics in, stores out.

One module of the project's sinks/ folder is one worker and one consumer group. ``worker`` is the loop, ``lane`` one
partition's part in it, ``decode`` makes Changes of messages, ``open`` finds the writer of a declaration; ``dynamodb``,
``lake`` and ``search`` are the writers, each knowing nothing of the others. ``writer`` says what a writer may add to
the public Sink protocol. It reads no topic but conformed ones and never imports the processors' side.
"""

from tailrace.sink.writer import Batching, Writer, Written

__all__ = ["Batching", "Writer", "Written"]
