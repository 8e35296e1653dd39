"""The ledger: the accounts of keys with limits, and their open reservations.

books.py      what happens to accounts and reservations, in SQL that both stores speak
store.py      what a store is: transactions, and one error
sqlite.py     a file of this host, which survives `kill -9`
postgres.py   a server that several gateways share
clerk.py      the books of one gateway, with their failures and repetitions; lives in one thread
desk.py       where the event loop hands in reservations and settlements
"""
