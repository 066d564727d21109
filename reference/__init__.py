"""What is written about the contract by program: the words of its reasons, and pages for developers.

Each fact has its home elsewhere: words in ``gateway.core.texts`` and ``gateway.core.explanation``, the contract and its
comments in ``proto/``. ``python -m reference`` writes the files anew; a test holds what is committed against them.
"""
