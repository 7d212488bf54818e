"""Asking vision-language models about images: one contract, and a backend for each way to reach a model.

contract.py     Question, Answer, AskError, Backend
families.py     how a model family writes boxes and wants its image
retrying.py     bounded concurrency, retries, a deadline per question
batching.py     dynamic batches for a model on this machine
openai_chat.py  any OpenAI-compatible server
pool.py         several servers of one model: weights by speed, rests, failover
structured.py   answers as JSON objects, for servers that can hold a model to a schema
local.py        a model on this machine, by transformers (the mini detector too)
generating.py   a batch of answers from a loaded model
qwen/           loading Qwen-VL: weights, processor, attention
oracle.py       the mini world's oracle, for tests and the demo's annotators
fake.py         scripted answers, for tests
registry.py     from settings to a backend
"""
