"""Keys and budgets: who asks, what that key may do, and what it has left.

keyring.py   a request's headers → the principal behind its key
estimate.py  a request → the most tokens that it can take (pure)
policy.py    one key's account, and how a reservation changes it (pure)
ledger/      accounts and open reservations, in SQLite or PostgreSQL
charges.py   reserve before a request is sent, settle when it is over

`api.gate` lets requests in; `proxy.dispatch` charges them.
"""
