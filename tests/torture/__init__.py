"""Torture: the promises of apply held against kills, signals, broken answers, failing disks and time.

`README.md` says what each campaign does and how to run it. The short forms run with all other tests
(`tests/test_torture.py`), the long ones by ``make torture``.
"""
