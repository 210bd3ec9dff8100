"""Checks for the processes of a sweep: each goes wrong in its own way, depending on the architecture's name."""

import os
import time


def check(name, facts):
    facts['length'] = len(name)
    if name == 'crashes':
        os.abort()
    if name == 'exits':
        os._exit(3)
    if name == 'hangs':
        time.sleep(60)
    if name == 'raises':
        raise ValueError('a reason')
    if name == 'fails':
        yield 'does not hold'
