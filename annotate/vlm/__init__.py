"""Asking vision-language models about images: one contract, and a backend for each way to reach one.

contract.py     Question, Answer, AskError, Backend
families.py     how a model family writes boxes and wants its image
asking.py       bounded concurrency, retries, a deadline per question
batching.py     many questions at a time for a model on this machine
openai_chat.py  any OpenAI-compatible server
local.py        a model on this machine, by transformers (the mini detector too)
oracle.py       the mini world's oracle: for tests and the demo's annotators
fake.py         scripted answers, for tests
registry.py     from settings to a backend
"""
