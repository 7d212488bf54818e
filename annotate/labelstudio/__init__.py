"""Between the store and a Label Studio: its server, its API, its results, and what goes there and comes back.

server    install, start, stop, ask how it is          connection  which server, with which key
client    its HTTP API, typed, with time-outs          config      the labelling page, versioned by hash
convert   defects to regions, and answers to records   media       the images as files that it may serve
project   make a project                               push, pull  tasks there, annotations back
webhook   hints that something changed                 watch       pull on hints, and by the clock
"""
