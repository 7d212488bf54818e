"""A detector behind HTTP, for programs that need answers on demand: BoxFlow-GRPO, Label Studio, `sdg prelabel`.

app.py           the server: health, access, the queue
chat.py          OpenAI's chat completions
label_studio.py  Label Studio's ML-backend protocol
vllm_server.py   vLLM in a venv of its own
cli.py           `sdg serve`
"""
