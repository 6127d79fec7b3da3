"""Smaller models with the price told: quantised and shrunk versions, what they cost in quality, and a teacher's replies.

`quantise.py` and `shrink.py` make child versions, `measuring.py` measures versions side by side on engines started for it,
`distilling.py` asks a teacher for the replies that a student is trained on, `store.py` keeps what was measured.
"""
