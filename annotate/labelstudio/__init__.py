"""Between the store and a Label Studio: the server, its API, its page, and pushing and pulling.

server      install, start and stop the home's own    connection  which server, with which key
client      the HTTP API, typed, with time-outs       idempotent  create something exactly once
config      the labelling page, versioned by hash     convert     the codec of regions, and checks
guideline   instructions for annotators               media       images as files that it may serve
project     create and recognise projects             accounts    sign up and log in
push        tasks there, each once                    pull        annotations back, each state once
reconcile   pulled tasks against the store            watch       pull on webhooks and by the clock
sync        what the commands share
"""
