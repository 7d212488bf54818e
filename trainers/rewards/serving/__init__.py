"""A server of rewards: the wire of `trainers.rewards.wire`, each reward in a process of its own.

settings.py   which rewards, by which code, in which environment
worker.py     the process of a reward; imports nothing of ours, so that another interpreter can run it
scorers.py    what a worker can run: ours, and (imscore_scorers.py) the ports of imscore
process.py    starts a worker, asks it, starts it again
app.py        POST /score, GET /rewards, GET /health
cli.py        `sdg serve rewards`
"""
