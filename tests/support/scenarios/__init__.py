"""Jobs of real torchrun, each run once against a real OTLP receiver and then looked at from many sides.

``job`` has what a scenario runs in, ``expected`` what must be told of it, ``running`` runs it and gives tests
what arrived. The scenarios themselves are sorted by what becomes of the job: ``deaths``, ``ends``,
``rendezvous``, and ``launches`` for the ways to start one.
"""
