"""A detector behind HTTP, for programs that need answers on demand: BoxFlow-GRPO, Label Studio, `sdg prelabel`.

application.py   what every server of a model starts from: bounds, errors, who may use it
app.py           the server of a detector: health, the queue
chat.py          OpenAI's chat completions
label_studio.py  Label Studio's ML-backend protocol
vllm_server.py   vLLM in a venv of its own
cli.py           `sdg serve`
"""
