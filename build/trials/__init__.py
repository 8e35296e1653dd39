"""A fleet under random faults: `build/chaos`.

fleet.py    a gateway and real neurons as processes, fakes in this one, and the configuration between them
fakes.py    neurons that misbehave: what no process of ours does by being killed
faults.py   what is done to them, by chance and by seed
clients.py  who asks all the while, and sometimes leaves
verdict.py  what an answer was: whole, an error, or wrong. Pure
leaks.py    what is left when all is quiet again
"""
